"""The timing loop and its statistics. Actions run in alternating batches, so that a disturbance affects all of them.

Needs numpy alone; knows nothing of models.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The first calls of a batch run with caches full of another model's data, unlike a program with one model.
BATCH_DROPPED = 2
BOOTSTRAP_ROUNDS = 2000
BOOTSTRAP_NUMBERS = 2**19
# A warm-up ends when two batches in a row were not faster than all before by this fraction. Waiting for equal times
# would not end on a machine that other processes use.
STEADY_FRACTION = 0.02
STEADY_BATCHES = 2
WARM_UP_BATCH_S = 0.05
WARM_UP_LEAST_CALLS = 3


@dataclass(frozen=True)
class Summary:
    """Statistics of the times of one action."""

    n: int  # number of calls
    p50_ms: float  # median
    p90_ms: float  # 90th percentile
    p99_ms: float  # 99th percentile
    mean_ms: float  # mean
    std_ms: float  # standard deviation of single calls
    p50_low_ms: float  # lower end of the median's 95 % confidence interval, by bootstrap
    p50_high_ms: float  # its upper end
    per_second: float  # calls per second, one after the other


@dataclass(frozen=True)
class WarmUp:
    """How an action warmed up."""

    calls: int  # number of calls
    steady: bool  # False if it still got faster at the end
    call_ms: float  # median of the last batch


@dataclass(frozen=True)
class Paced:
    """How an action kept up with a camera that keeps only its latest frame."""

    fps: float  # of the camera
    frames: int  # number of frames from the camera
    dropped: int  # frames that were replaced by a newer one before they were used
    age_p50_ms: float  # median time from a frame's arrival to its result
    age_p99_ms: float  # 99th percentile of it
    jitter_ms: float  # standard deviation of the time between two results


@dataclass(frozen=True)
class Ratio:
    """How many times slower one action is than another."""

    ratio: float  # of two medians, or the median over batches of the ratio of theirs
    low: float  # lower end of its 95 % confidence interval, by bootstrap
    high: float  # its upper end


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch Python's garbage collection off inside the block."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def time_calls(action: Callable[[], object], calls: int) -> NDArray[np.float64]:
    """Return the time of each of so many calls in a row in ms, float64 (calls,)."""
    clock = time.perf_counter_ns
    marks = [clock()]
    for _ in range(calls):
        action()
        marks.append(clock())
    return np.diff(np.array(marks, np.float64)) / 1e6


def warm_up(action: Callable[[], object], seconds: float) -> WarmUp:
    """Call an action until it gets no faster, for at most so many seconds, and return how it warmed up."""
    end = time.perf_counter_ns() + seconds * 1e9
    calls, best, last, waited = 0, math.inf, math.inf, 0
    while waited < STEADY_BATCHES and (calls == 0 or time.perf_counter_ns() < end):
        # The first call is too slow to estimate how many fit; three calls are enough.
        count = WARM_UP_LEAST_CALLS if calls == 0 else int(WARM_UP_BATCH_S * 1e3 / max(last, 1e-3))
        times = time_calls(action, max(WARM_UP_LEAST_CALLS, count))
        calls, last = calls + len(times), float(np.median(times))
        waited = waited + 1 if last > best * (1 - STEADY_FRACTION) else 0
        best = min(best, last)
    return WarmUp(calls, waited == STEADY_BATCHES, last)


def pace(action: Callable[[], object], fps: float, seconds: float) -> tuple[Paced, NDArray[np.float64]]:
    """Return how an action keeps up with a camera, and the time of every call in ms, float64 (calls,).

    Between two frames it sleeps, as a program that waits for a camera does, so that the clock may fall.
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
    """Return the statistics of one action, from its times in ms, float64 (batches, calls)."""
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    low, high = np.percentile(draw_medians(samples, seed), (2.5, 97.5))
    mean = float(samples.mean())
    return Summary(samples.size, p50, p90, p99, mean, float(samples.std()), float(low), float(high), 1000 / mean)


def draw_medians(samples: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return bootstrapped medians, float64 (rounds,), of ms, float64 (batches, calls).

    Whole batches are drawn, because the calls of a batch share its noise; from a single batch, calls are drawn.
    """
    batches = samples if len(samples) > 1 else samples.reshape(-1, 1)
    random = np.random.default_rng(seed)
    medians = np.empty(BOOTSTRAP_ROUNDS)
    # All rounds at once would not fit into a small board's memory. The parts do not change which batches are drawn.
    step = max(1, BOOTSTRAP_NUMBERS // batches.size)
    for start in range(0, BOOTSTRAP_ROUNDS, step):
        rounds = medians[start : start + step]
        draws = batches[random.integers(0, len(batches), (len(rounds), len(batches)))]
        rounds[:] = np.median(draws.reshape(len(rounds), -1), axis=1)
    return medians


def compare_runs(
    slow: NDArray[np.float64], fast: NDArray[np.float64], seed: int = 0, *, in_turns: bool = False
) -> Ratio:
    """Return the median of `slow` divided by that of `fast`, float64 (batches, calls), with its interval.

    Args:
        slow: times in ms.
        fast: times in ms.
        seed: of the bootstrap.
        in_turns: True if the batches of both alternated: the bootstrap then draws the same batches of both, because a
            disturbance affects both.
    """
    draws = draw_medians(slow, seed) / draw_medians(fast, seed if in_turns else seed + 1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Ratio(float(np.median(slow) / np.median(fast)), float(low), float(high))


def compare_times(slow: NDArray[np.float64], fast: NDArray[np.float64], seed: int = 0) -> Ratio:
    """Return how many times slower `slow` is than `fast`, batch by batch; both were measured in alternating batches."""
    ratios = np.median(slow, axis=1) / np.median(fast, axis=1)
    random = np.random.default_rng(seed)
    draws = random.choice(ratios, (BOOTSTRAP_ROUNDS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))
