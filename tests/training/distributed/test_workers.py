"""What workers tell each other, summed by threads here; TensorFlow sums in test_several_machines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.training.distributed.cluster import Cluster
from edgecls.training.distributed.workers import ALONE, Workers, join

Answer = TypeVar("Answer")


class Linked(Workers):
    """A worker that sums with those that hold the same list."""

    def __init__(self, cluster: Cluster, values: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(cluster)
        self._values, self._barrier = values, barrier

    def _sum(self, values: Any) -> Any:
        self._values[self.index] = values
        self._barrier.wait(10)
        total = np.sum(self._values, 0)
        self._barrier.wait(10)
        return total


def ask(count: int, question: Callable[[Workers], Answer]) -> list[Answer]:
    """Return what each of some workers is answered."""
    addresses = tuple(f"host{index}:1" for index in range(count))
    values, barrier = [None] * count, threading.Barrier(count)
    workers = [Linked(Cluster(addresses, index), values, barrier) for index in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(question, workers))


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=4).filter(any))
def test_bytes_arrive_as_they_are(data: Sequence[bytes]) -> None:
    assert ask(len(data), lambda worker: worker.gather(data[worker.index])) == [list(data)] * len(data)
    if data[0]:
        assert ask(len(data), lambda worker: worker.broadcast(data[worker.index])) == [data[0]] * len(data)


@pytest.mark.parametrize("said", [(False, False, False), (False, True, False), (True, True, True)])
def test_one_is_enough(said: tuple[bool, ...]) -> None:
    assert ask(3, lambda worker: worker.anyone(said[worker.index])) == [any(said)] * 3


def test_all_are_reported_who_differs_in_what() -> None:
    facts: list[dict[str, Any]] = [{"epochs": 5, "images": "a" * 64}] * 2 + [{"epochs": 6, "more": None}]

    def check(worker: Workers) -> str:
        with pytest.raises(ConfigError) as caught:
            worker.check_same(facts[worker.index])
        return str(caught.value)

    first, *others = ask(3, check)
    assert others == [first, first]
    what = f"epochs (6, not 5), images (None, not {'a' * 40}...)"
    assert first.startswith(f"worker 2 (host2:1) has other settings than worker 0 (host0:1): {what}; give all")
    ask(2, lambda worker: worker.check_same(facts[worker.index]))


def test_one_process_needs_no_others() -> None:
    with join(None, TrainConfig(batch_norm=True)) as workers:
        assert workers is ALONE
        assert workers.gather(b"a") == [b"a"] and workers.broadcast(b"b") == b"b"
        assert workers.anyone(True) and not workers.anyone(False)
        workers.check_same({"epochs": 5})


def test_batch_normalization_cannot_be_shared() -> None:
    with pytest.raises(ConfigError, match="--batch-norm needs whole batches"):
        with join(Cluster(("a:1", "b:1"), 0), TrainConfig(batch_norm=True)):
            pass
