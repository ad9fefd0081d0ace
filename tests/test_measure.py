from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.benchmark import measure
from edgecls.benchmark.measure import TURN_CALLS, TURN_DROPPED, compare_times, time_interleaved

CALLS = TURN_CALLS - TURN_DROPPED


def busy(nanoseconds: int) -> Callable[[], None]:
    def action() -> None:
        end = time.perf_counter_ns() + nanoseconds
        while time.perf_counter_ns() < end:
            pass

    return action


def test_an_action_of_twice_the_time_is_found_twice_as_slow() -> None:
    samples = time_interleaved({"slow": busy(400_000), "fast": busy(200_000)}, turns=20)
    found = compare_times(samples["slow"], samples["fast"])
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(2, rel=0.25)
    assert found.low / 1.25 < 2 < found.high * 1.25


@pytest.mark.parametrize("turns", [1, 3])
def test_every_action_has_its_turn_as_often_and_in_a_row(turns: int) -> None:
    called: list[str] = []
    actions = {name: partial(called.append, name) for name in "abc"}
    samples = time_interleaved(actions, turns=turns)
    assert {name: times.shape for name, times in samples.items()} == dict.fromkeys("abc", (turns, CALLS))
    assert Counter(called) == dict.fromkeys("abc", (turns + 1) * TURN_CALLS)
    for start in range(0, len(called), 3 * TURN_CALLS):
        runs = [(name, len(list(run))) for name, run in groupby(called[start : start + 3 * TURN_CALLS])]
        assert sorted(runs) == [(name, TURN_CALLS) for name in "abc"]


def called_order(seed: int) -> list[str]:
    called: list[str] = []
    time_interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, turns=20, seed=seed)
    return called[::TURN_CALLS]


def test_the_order_changes_from_turn_to_turn_and_follows_the_seed() -> None:
    order = called_order(1)
    assert {"".join(order[i : i + 2]) for i in range(0, len(order), 2)} == {"ab", "ba"}
    assert called_order(1) == order != called_order(2)


def test_times_are_ms_of_each_call_without_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0, 0

    def action() -> None:
        nonlocal now, calls
        now += 1_000_000 * calls
        calls += 1

    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter_ns=lambda: now))
    samples = time_interleaved({"a": action}, turns=2)["a"]
    expected = np.arange(3 * TURN_CALLS).reshape(3, TURN_CALLS)[1:, TURN_DROPPED:]
    assert np.array_equal(samples, expected)


@pytest.fixture
def collector_restored() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_restored")
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_garbage_collection_is_off_meanwhile_and_then_as_before(enabled: bool, fails: bool) -> None:
    seen = []

    def action() -> None:
        seen.append(gc.isenabled())
        if fails and len(seen) > TURN_CALLS:
            raise RuntimeError("stop")

    (gc.enable if enabled else gc.disable)()
    try:
        time_interleaved({"a": action}, turns=2)
    except RuntimeError:
        assert fails
    assert gc.isenabled() is enabled
    assert len(seen) == (TURN_CALLS + 1 if fails else 3 * TURN_CALLS) and not any(seen)


@settings(max_examples=25, deadline=None)
@given(fast=st.floats(1e-3, 1e3), slow=st.floats(1e-3, 1e3), turns=st.integers(1, 6))
def test_constant_times_have_an_exact_ratio(fast: float, slow: float, turns: int) -> None:
    found = compare_times(np.full((turns, CALLS), slow), np.full((turns, CALLS), fast))
    assert (found.ratio, found.low, found.high) == pytest.approx((slow / fast,) * 3, rel=1e-12)


def test_what_hits_a_whole_turn_cancels_out_and_a_single_call_does_not_count() -> None:
    moments = np.random.default_rng(0).uniform(1, 5, (20, 1))
    fast = np.repeat(moments, CALLS, 1)
    slow = 3 * fast
    slow[:, 4] = 1000
    found = compare_times(slow, fast)
    assert (found.ratio, found.low, found.high) == pytest.approx((3, 3, 3))


def test_the_interval_widens_with_noise_and_narrows_with_turns() -> None:
    def width(noise: float, turns: int) -> float:
        rng = np.random.default_rng(5)
        slow, fast = (base * rng.normal(1, noise, (turns, 1)) * np.ones(CALLS) for base in (2, 1))
        found = compare_times(slow, fast)
        assert found.low < found.ratio < found.high
        assert found.low < 2.1 and found.high > 1.9
        return found.high - found.low

    assert 3 * width(0.01, 30) < width(0.1, 30)
    assert 2 * width(0.1, 600) < width(0.1, 30)


def test_the_bootstrap_follows_the_seed() -> None:
    slow, fast = np.random.default_rng(6).uniform(1, 2, (2, 15, CALLS))
    assert compare_times(slow, fast, seed=1) == compare_times(slow, fast, seed=1)
    assert any(compare_times(slow, fast, seed=1) != compare_times(slow, fast, seed=seed) for seed in (2, 3, 4))
