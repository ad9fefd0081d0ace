"""What every profiler returns, and how it sums up many runs. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# The first runs pack weights and fill caches.
WARM_UP_RUNS = 5
LEAST_RUNS = 20


class Timed(NamedTuple):
    """An operator as an engine runs it: it may have fused several of the file's.

    Attributes:
        name: that the engine gives it.
        type: likewise, such as "CONV_2D" or "QLinearConv".
        ms: time of one run.
        origins: names in the file of what it was made of.
    """

    name: str
    type: str
    ms: float
    origins: tuple[str, ...] = ()


def middle_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half: finer than a median of whole microseconds, and as deaf to interruptions."""
    ordered = np.sort(np.asarray(values, np.float64))
    return float(ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4].mean())
