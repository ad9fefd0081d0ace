"""Times actions in alternating batches, so that a disturbance affects all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark.measure import BATCH_DROPPED, no_garbage_collection, time_calls

# Calls of one action in a batch: a single one would run with caches full of another model's data.
BATCH_CALLS = 12


def time_interleaved(
    actions: Mapping[str, Callable[[], object]], *, batches: int = 30, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Return the time of every call in ms by action, float64 (batches, calls).

    In each batch every action runs `BATCH_CALLS` times in a row, in random order. One more batch warms up.
    """
    random = np.random.default_rng(seed)
    names = list(actions)
    samples = {name: np.empty((batches, BATCH_CALLS - BATCH_DROPPED)) for name in names}
    with no_garbage_collection():
        for batch in range(-1, batches):
            for index in random.permutation(len(names)):
                times = time_calls(actions[names[index]], BATCH_CALLS)
                if batch >= 0:
                    samples[names[index]][batch] = times[BATCH_DROPPED:]
    return samples
