"""The timing loop: several actions take turns in one process, so that a noisy moment hits all of them alike.

Needs numpy alone; knows nothing of models.
"""

from __future__ import annotations

import gc
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
                times = _time_calls(actions[names[index]])
                if turn >= 0:
                    samples[names[index]][turn] = times[TURN_DROPPED:]
    finally:
        if collecting:
            gc.enable()
    return samples


def _time_calls(action: Callable[[], object]) -> NDArray[np.float64]:
    clock = time.perf_counter_ns
    marks = [clock()]
    for _ in range(TURN_CALLS):
        action()
        marks.append(clock())
    return np.diff(np.array(marks, np.float64)) / 1e6


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
