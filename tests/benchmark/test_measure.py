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
from interleaved import BATCH_CALLS, time_interleaved

from edgecls.benchmark import measure
from edgecls.benchmark.measure import (
    BATCH_DROPPED,
    compare_runs,
    compare_times,
    draw_medians,
    pace,
    summarize,
    time_calls,
    warm_up,
)

CALLS = BATCH_CALLS - BATCH_DROPPED


def busy(nanoseconds: int) -> Callable[[], None]:
    def action() -> None:
        end = time.perf_counter_ns() + nanoseconds
        while time.perf_counter_ns() < end:
            pass

    return action


def test_an_action_of_twice_the_time_is_found_twice_as_slow() -> None:
    samples = time_interleaved({"slow": busy(400_000), "fast": busy(200_000)}, batches=20)
    found = compare_times(samples["slow"], samples["fast"])
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(2, rel=0.25)
    assert found.low / 1.25 < 2 < found.high * 1.25


@pytest.mark.parametrize("batches", [1, 3])
def test_every_action_runs_in_batches_equally_often(batches: int) -> None:
    called: list[str] = []
    actions = {name: partial(called.append, name) for name in "abc"}
    samples = time_interleaved(actions, batches=batches)
    assert {name: times.shape for name, times in samples.items()} == dict.fromkeys("abc", (batches, CALLS))
    assert Counter(called) == dict.fromkeys("abc", (batches + 1) * BATCH_CALLS)
    for start in range(0, len(called), 3 * BATCH_CALLS):
        runs = [(name, len(list(run))) for name, run in groupby(called[start : start + 3 * BATCH_CALLS])]
        assert sorted(runs) == [(name, BATCH_CALLS) for name in "abc"]


def called_order(seed: int) -> list[str]:
    called: list[str] = []
    time_interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, batches=20, seed=seed)
    return called[::BATCH_CALLS]


def test_the_order_changes_from_batch_to_batch_and_follows_the_seed() -> None:
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
    samples = time_interleaved({"a": action}, batches=2)["a"]
    expected = np.arange(3 * BATCH_CALLS).reshape(3, BATCH_CALLS)[1:, BATCH_DROPPED:]
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
        if fails and len(seen) > BATCH_CALLS:
            raise RuntimeError("stop")

    (gc.enable if enabled else gc.disable)()
    try:
        time_interleaved({"a": action}, batches=2)
    except RuntimeError:
        assert fails
    assert gc.isenabled() is enabled
    assert len(seen) == (BATCH_CALLS + 1 if fails else 3 * BATCH_CALLS) and not any(seen)


@settings(max_examples=25)
@given(fast=st.floats(1e-3, 1e3), slow=st.floats(1e-3, 1e3), batches=st.integers(1, 6))
def test_constant_times_have_an_exact_ratio(fast: float, slow: float, batches: int) -> None:
    found = compare_times(np.full((batches, CALLS), slow), np.full((batches, CALLS), fast))
    assert (found.ratio, found.low, found.high) == pytest.approx((slow / fast,) * 3, rel=1e-12)


def test_what_affects_a_whole_batch_cancels_out_and_a_single_call_does_not_count() -> None:
    moments = np.random.default_rng(0).uniform(1, 5, (20, 1))
    fast = np.repeat(moments, CALLS, 1)
    slow = 3 * fast
    slow[:, 4] = 1000
    found = compare_times(slow, fast)
    assert (found.ratio, found.low, found.high) == pytest.approx((3, 3, 3))


def test_batches_in_turns_are_drawn_together() -> None:
    """Also where one has more calls in a batch, so that the bootstrap takes its rounds in other parts."""
    moments = np.random.default_rng(0).uniform(1, 5, (40, 1))
    fast, slow = np.repeat(moments, 200, 1), np.repeat(3 * moments, 5, 1)
    together, apart = compare_runs(slow, fast, in_turns=True), compare_runs(slow, fast)
    assert (together.ratio, together.low, together.high) == pytest.approx((3, 3, 3))
    assert together.ratio == apart.ratio and apart.low < 2.6 and apart.high > 3.4


def test_the_interval_widens_with_noise_and_narrows_with_batches() -> None:
    def width(noise: float, batches: int) -> float:
        rng = np.random.default_rng(5)
        slow, fast = (base * rng.normal(1, noise, (batches, 1)) * np.ones(CALLS) for base in (2, 1))
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


class Clock:
    """Time that goes on by itself only when something sleeps or works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.slept: list[float] = []
        monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter_ns=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)

    def working(self, *times_ms: float) -> Callable[[], None]:
        """An action that takes these times, the last one from then on."""
        left = list(times_ms)

        def action() -> None:
            self.now += round((left.pop(0) if len(left) > 1 else left[0]) * 1e6)

        return action


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_times_of_calls_in_a_row(clock: Clock) -> None:
    assert time_calls(clock.working(3, 1, 2), 4).tolist() == [3, 1, 2, 2]


def test_a_warm_up_ends_when_it_gets_no_faster(clock: Clock) -> None:
    found = warm_up(clock.working(*[50] * 3, *[20] * 3, *[10] * 200), 10)
    assert found.steady
    assert found.call_ms == 10
    # 3 at 50 ms, 3 at 20, 3 at 10 that are the fastest so far, and two batches of 50 ms that are not faster.
    assert found.calls == 3 + 3 + 3 + 5 + 5


def test_a_warm_up_of_a_noisy_action_ends_too(clock: Clock) -> None:
    times = np.random.default_rng(0).lognormal(2, 1, 5000)
    found = warm_up(clock.working(*times), 100)
    assert found.steady and found.calls < 500


def test_a_warm_up_does_not_go_on_for_ever(clock: Clock) -> None:
    found = warm_up(clock.working(*(1000 * 0.9 ** np.arange(300))), 4)
    assert not found.steady
    assert 4e9 <= clock.now < 6e9


def test_a_warm_up_of_a_very_slow_action_calls_it_once_at_least(clock: Clock) -> None:
    found = warm_up(clock.working(60_000), 1)
    assert (found.calls, found.steady, found.call_ms) == (3, False, 60_000)


def test_a_fast_action_keeps_up_with_a_camera(clock: Clock) -> None:
    paced, times = pace(clock.working(8), fps=50, seconds=2)
    assert (paced.frames, paced.dropped, len(times)) == (100, 0, 100)
    assert (paced.age_p50_ms, paced.age_p99_ms) == pytest.approx((8, 8), abs=0.01)
    assert paced.jitter_ms == pytest.approx(0, abs=0.01)
    assert sum(clock.slept) == pytest.approx(99 * 0.012, rel=0.01)
    assert times == pytest.approx(np.full(100, 8.0))


def test_a_slow_action_drops_frames_and_takes_the_latest(clock: Clock) -> None:
    paced, times = pace(clock.working(50), fps=50, seconds=2)
    # It never waits: 20 results a second of 50 frames.
    assert len(times) + paced.dropped == 100
    assert len(times) == pytest.approx(40, abs=1)
    # A frame waits up to 20 ms for its batch.
    assert 50 <= paced.age_p50_ms <= paced.age_p99_ms <= 70.01


def test_one_hiccup_is_seen_in_age_and_jitter(clock: Clock) -> None:
    paced, _ = pace(clock.working(*[5] * 50, 35, *[5] * 49), fps=50, seconds=2)
    assert paced.dropped == 0
    assert paced.age_p50_ms == pytest.approx(5, abs=0.01)
    assert paced.age_p99_ms > 19
    assert paced.jitter_ms > 3


@settings(max_examples=25)
@given(fps=st.floats(1, 200), seconds=st.floats(0.01, 3), call_ms=st.floats(0.1, 300))
def test_every_frame_is_done_or_dropped(fps: float, seconds: float, call_ms: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        paced, times = pace(Clock(patch).working(call_ms), fps, seconds)
    assert len(times) + paced.dropped == paced.frames == max(1, round(fps * seconds))
    assert len(times) >= 1
    # Nanoseconds are rounded.
    assert paced.age_p50_ms >= call_ms - 1e-3
    assert paced.age_p99_ms <= 2 * max(call_ms, 1000 / fps) + call_ms + 1e-3


def test_a_summary_agrees_with_numpy() -> None:
    times = np.random.default_rng(0).lognormal(1, 0.3, (30, 10))
    found = summarize(times)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == tuple(np.percentile(times, (50, 90, 99)))
    assert (found.n, found.mean_ms, found.std_ms) == (300, times.mean(), times.std())
    assert found.per_second == pytest.approx(1000 / times.mean())
    assert found.p50_low_ms < found.p50_ms < found.p50_high_ms
    assert summarize(times) == found != summarize(times, seed=1)


def test_the_interval_knows_that_calls_of_a_batch_share_its_noise() -> None:
    random = np.random.default_rng(0)
    alone = random.normal(10, 1, (40, 50))
    together = random.normal(10, 1, (40, 1)) + random.normal(0, 0.01, (40, 50))
    widths = [found.p50_high_ms - found.p50_low_ms for found in (summarize(alone), summarize(together))]
    # 50 times fewer independent times: about 7 times as wide.
    assert widths[1] > 4 * widths[0]


def test_rounds_are_drawn_in_parts_that_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.random.default_rng(0).normal(10, 1, (20, 7))
    whole = draw_medians(times, 3)
    monkeypatch.setattr(measure, "BOOTSTRAP_NUMBERS", 3 * times.size)
    assert np.array_equal(draw_medians(times, 3), whole)


def test_the_interval_holds_the_true_median_about_19_times_in_20() -> None:
    random = np.random.default_rng(0)
    found = [summarize(random.normal(10, 1, (30, 1)) + random.normal(0, 0.1, (30, 10)), seed) for seed in range(100)]
    assert 85 <= sum(each.p50_low_ms <= 10 <= each.p50_high_ms for each in found) <= 100


def test_a_single_batch_is_drawn_by_calls() -> None:
    draws = draw_medians(np.array([[1.0, 2, 3, 4, 5]]))
    assert draws.min() < 3 < draws.max()
    assert np.array_equal(draw_medians(np.array([[7.0]])), np.full(measure.BOOTSTRAP_ROUNDS, 7))


@pytest.mark.parametrize("batches", [12, 50])
def test_runs_of_another_time_are_compared(batches: int) -> None:
    random = np.random.default_rng(0)

    def times(median: float, batches: int) -> np.ndarray:
        return median * random.normal(1, 0.02, (batches, 1)) * random.normal(1, 0.02, (batches, 8))

    same, slower = compare_runs(times(3, batches), times(3, 30)), compare_runs(times(3.6, batches), times(3, 30))
    assert same.low < 1.02 and same.high > 0.98
    assert slower.ratio == pytest.approx(1.2, rel=0.03)
    assert 1.15 < slower.low < slower.ratio < slower.high < 1.25
