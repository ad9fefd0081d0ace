"""The timing loop and its statistics: actions take turns, so that a noisy moment hits all of them alike.

Needs numpy alone; knows nothing of models.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Calls of one action before the next has its turn. One would measure caches filled by the neighbour, which no
# program that runs one model has; the first calls of a turn are dropped for the same reason.
TURN_CALLS = 12
TURN_DROPPED = 2
BOOTSTRAP_ROUNDS = 2000
BOOTSTRAP_NUMBERS = 2**19
# A warm-up is over when two batches in a row were not faster than all before by this share. Waiting for equal times
# would never end where a neighbour disturbs them.
STEADY_SHARE = 0.02
STEADY_BATCHES = 2
WARM_UP_BATCH_S = 0.05
WARM_UP_LEAST_CALLS = 3


@dataclass(frozen=True)
class Summary:
    """Figures of one action's times.

    Attributes:
        n: calls.
        p50_ms: median.
        p90_ms: 90 % of the calls took at most as long.
        p99_ms: 99 % did.
        mean_ms: mean.
        std_ms: standard deviation of single calls.
        p50_low_ms: lower end of the median's 95 % bootstrap interval.
        p50_high_ms: upper end.
        per_second: calls a second, one after the other.
    """

    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    p50_low_ms: float
    p50_high_ms: float
    per_second: float


@dataclass(frozen=True)
class WarmUp:
    """How an action warmed up.

    Attributes:
        calls: until it was steady, or time was up.
        steady: False if it still got faster when time was up.
        call_ms: median of the last batch.
    """

    calls: int
    steady: bool
    call_ms: float


@dataclass(frozen=True)
class Paced:
    """How an action kept up with a camera that holds no more than its latest frame.

    Attributes:
        fps: of the camera.
        frames: that the camera gave.
        dropped: frames that a newer one replaced before it was their turn.
        age_p50_ms: median time from a frame's arrival to its result.
        age_p99_ms: 99 % of the results came at most that late.
        jitter_ms: standard deviation of the time between two results.
    """

    fps: float
    frames: int
    dropped: int
    age_p50_ms: float
    age_p99_ms: float
    jitter_ms: float


@dataclass(frozen=True)
class Ratio:
    """How many times slower one action is than another.

    Attributes:
        ratio: median over turns of the two medians' ratio.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
    """

    ratio: float
    low: float
    high: float


def time_interleaved(
    actions: Mapping[str, Callable[[], object]], *, turns: int = 30, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Return the time of every call in ms by action, float64 (turns, calls).

    Each turn runs every action `TURN_CALLS` times in a row, the order of actions drawn anew. One turn more than asked
    for warms up.

    Args:
        actions: what to time; each is called without arguments.
        turns: how often each action has its turn.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    names = list(actions)
    samples = {name: np.empty((turns, TURN_CALLS - TURN_DROPPED)) for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(-1, turns):
            for index in random.permutation(len(names)):
                times = time_calls(actions[names[index]], TURN_CALLS)
                if turn >= 0:
                    samples[names[index]][turn] = times[TURN_DROPPED:]
    finally:
        if collecting:
            gc.enable()
    return samples


def time_calls(action: Callable[[], object], calls: int) -> NDArray[np.float64]:
    """Return the time of each of so many calls in a row in ms, float64 (calls,)."""
    clock = time.perf_counter_ns
    marks = [clock()]
    for _ in range(calls):
        action()
        marks.append(clock())
    return np.diff(np.array(marks, np.float64)) / 1e6


def warm_up(action: Callable[[], object], seconds: float) -> WarmUp:
    """Return how an action warmed up, having called it until it got no faster, at most for so many seconds."""
    end = time.perf_counter_ns() + seconds * 1e9
    calls, best, last, waited = 0, math.inf, math.inf, 0
    while waited < STEADY_BATCHES and (calls == 0 or time.perf_counter_ns() < end):
        # The first call is slow and says little of how many fit; three of them say enough.
        count = WARM_UP_LEAST_CALLS if calls == 0 else int(WARM_UP_BATCH_S * 1e3 / max(last, 1e-3))
        times = time_calls(action, max(WARM_UP_LEAST_CALLS, count))
        calls, last = calls + len(times), float(np.median(times))
        waited = waited + 1 if last > best * (1 - STEADY_SHARE) else 0
        best = min(best, last)
    return WarmUp(calls, waited == STEADY_BATCHES, last)


def pace(action: Callable[[], object], fps: float, seconds: float) -> tuple[Paced, NDArray[np.float64]]:
    """Return how an action keeps up with a camera, and the time of every call in ms, float64 (calls,).

    Between two frames it sleeps, as a program that waits for a camera does: clocks go down meanwhile.
    """
    frames, last = max(1, round(fps * seconds)), -1
    began = time.perf_counter_ns()
    starts, ends, due = [], [], []
    while last < frames - 1:
        arrived = int((time.perf_counter_ns() - began) * fps / 1e9)
        frame = min(max(arrived, last + 1), frames - 1)
        if (wait := frame / fps - (time.perf_counter_ns() - began) / 1e9) > 0:
            time.sleep(wait)
        starts.append(time.perf_counter_ns())
        action()
        ends.append(time.perf_counter_ns())
        due.append(began + frame * 1e9 / fps)
        last = frame
    done = np.array(ends, np.float64)
    age = (done - due) / 1e6
    jitter = float(np.diff(done).std() / 1e6) if len(done) > 1 else 0.0
    median, late = (float(value) for value in np.percentile(age, (50, 99)))
    return Paced(fps, frames, frames - len(done), median, late, jitter), (done - starts) / 1e6


def summarize(samples: NDArray[np.float64], seed: int = 0) -> Summary:
    """Return the figures of one action.

    Args:
        samples: ms, float64 (turns, calls).
        seed: of the bootstrap.
    """
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    low, high = np.percentile(draw_medians(samples, seed), (2.5, 97.5))
    mean = float(samples.mean())
    return Summary(samples.size, p50, p90, p99, mean, float(samples.std()), float(low), float(high), 1000 / mean)


def draw_medians(samples: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return bootstrapped medians, float64 (rounds,), of ms, float64 (turns, calls).

    Whole turns are drawn, because calls of one turn share its noise; of a single turn, calls are.
    """
    turns = samples if len(samples) > 1 else samples.reshape(-1, 1)
    random = np.random.default_rng(seed)
    medians = np.empty(BOOTSTRAP_ROUNDS)
    # Not all rounds at once, which would not fit a small board's memory.
    step = max(1, BOOTSTRAP_NUMBERS // turns.size)
    for start in range(0, BOOTSTRAP_ROUNDS, step):
        rounds = medians[start : start + step]
        draws = turns[random.integers(0, len(turns), (len(rounds), len(turns)))]
        rounds[:] = np.median(draws.reshape(len(rounds), -1), axis=1)
    return medians


def compare_runs(slow: NDArray[np.float64], fast: NDArray[np.float64], seed: int = 0) -> Ratio:
    """Return how many times slower `slow` is than `fast`, measured at another time.

    Args:
        slow: float64 (turns, calls).
        fast: likewise; as many turns or not.
        seed: of the bootstrap.
    """
    draws = draw_medians(slow, seed) / draw_medians(fast, seed + 1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Ratio(float(np.median(slow) / np.median(fast)), float(low), float(high))


def compare_times(slow: NDArray[np.float64], fast: NDArray[np.float64], seed: int = 0) -> Ratio:
    """Return how many times slower `slow` is than `fast`, turn by turn.

    Args:
        slow: float64 (turns, calls) of `time_interleaved`.
        fast: likewise, of the same run.
        seed: of the bootstrap.
    """
    ratios = np.median(slow, axis=1) / np.median(fast, axis=1)
    random = np.random.default_rng(seed)
    draws = random.choice(ratios, (BOOTSTRAP_ROUNDS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))
