"""The result of every profiler, and the mean of many runs. Needs only numpy.

Each profiler is a module with METHOD, a text, and `time_operators(graph, spec, threads, seconds)`, which returns the
operators in the order they run: `graph` has no metadata, `threads` are the engine's, and it takes about `seconds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgecls.benchmark.measure import time_calls

# The first runs prepare weights and fill caches.
WARM_UP_RUNS = 5
LEAST_RUNS = 20


class Timed(NamedTuple):
    """An operator as an engine runs it, which may have fused several operators of the file."""

    name: str  # in the engine
    type: str  # in the engine, such as "CONV_2D" or "QLinearConv"
    ms: float  # time of one run
    origins: tuple[str, ...] = ()  # names in the file of the operators in it


def time_runs(action: Callable[[], object], seconds: float) -> float:
    """Return the time of one run in ms, from runs for so many seconds, or `LEAST_RUNS`."""
    end = time.perf_counter() + seconds
    times = list(time_calls(action, LEAST_RUNS))
    while time.perf_counter() < end:
        times += list(time_calls(action, LEAST_RUNS))
    return interquartile_mean(times)


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the interquartile mean: finer than a median of whole microseconds, and as robust to interruptions."""
    ordered = np.sort(np.asarray(values, np.float64))
    return float(ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4].mean())
