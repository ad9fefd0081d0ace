from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.runtime.read_ahead import map_ahead

WAIT_S = 20


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgecls")]


def wait_for_the_end() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("edgecls"):
            thread.join(WAIT_S)
    assert our_threads() == []


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_the_order_is_kept_whatever_takes_longest(delays: list[int], workers: int) -> None:
    items = list(enumerate(delays))
    done = threading.Event()

    def work(item: tuple[int, int]) -> int:
        done.wait(item[1] / 2000)
        return -item[0]

    assert list(map_ahead(work, items, workers)) == [(item, -item[0]) for item in items]


def test_workers_work_side_by_side() -> None:
    # Nobody passes before the third arrives.
    barrier = threading.Barrier(3)
    assert [result for _, result in map_ahead(lambda _: barrier.wait(WAIT_S) >= 0, range(3), 3)] == [True] * 3


def test_what_is_ready_comes_while_the_source_waits() -> None:
    seen = threading.Event()

    def camera() -> Iterator[int]:
        yield 1
        # The next frame comes only after the caller has the first one's result.
        assert seen.wait(WAIT_S)
        yield 2

    results = map_ahead(lambda item: item * 10, camera(), 2)
    assert next(results) == (1, 10)
    seen.set()
    assert list(results) == [(2, 20)]


def test_few_items_are_held() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item, source(), 2)
    for expected in range(100):
        assert next(results) == (expected, expected)
        assert len(taken) <= expected + 1 + 2 * 2 + 1
    results.close()
    wait_for_the_end()
    assert len(taken) < 110


def test_the_sources_error_comes_after_what_it_gave() -> None:
    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("camera unplugged")

    results = map_ahead(lambda item: item, broken(), 1)
    assert [next(results), next(results)] == [(1, 1), (2, 2)]
    with pytest.raises(OSError, match="camera unplugged"):
        next(results)
    wait_for_the_end()


def test_the_functions_error_comes_in_its_turn_and_ends_it() -> None:
    results = map_ahead(lambda item: 1 / (2 - item), range(100), 3)
    assert [next(results), next(results)] == [(0, 0.5), (1, 1.0)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    wait_for_the_end()


def test_closing_does_not_wait_for_a_source_that_never_gives_again() -> None:
    never = threading.Event()

    def camera() -> Iterator[int]:
        yield 1
        never.wait(WAIT_S)
        yield 2

    results = map_ahead(lambda item: item, camera(), 1)
    next(results)
    results.close()
    (reader,) = (thread for thread in threading.enumerate() if thread.name == "edgecls-read")
    assert reader.daemon and reader.is_alive()
    never.set()
    wait_for_the_end()
