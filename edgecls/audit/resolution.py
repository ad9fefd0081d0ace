"""Compares a picture with one that may be its copy of lower resolution, which lacks its finest structure."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.audit.align import SIDE, Floats, unit

# Pixels along a side of the copy, if the original has 28.
SIDES = (14, 16, 18, 20, 22, 24)


def compare_lower(images: Floats, structures: Floats, own: Callable[[Floats], Floats]) -> Floats:
    """Return the highest correlation, float32 (N,), that pictures have with others if they get a lower resolution.

    Args:
        images: the pictures, float32 (N, 28, 28).
        structures: `unit(own(others))` of the picture that each is compared with, float32 (N, 784).
        own: takes away what all pictures share.
    """
    found = []
    for side in SIDES:
        matrix = _resize_twice(side)
        lower = unit(own((matrix @ images @ matrix.T).astype(np.float32, copy=False)))
        found.append((lower.reshape(structures.shape) * structures).sum(1))
    result: Floats = np.max(found, axis=0)
    return result


@functools.cache
def _resize_twice(side: int) -> NDArray[np.float32]:
    """Return what resizes a row of 28 pixels to `side` pixels and back, float32 (28, 28)."""
    rows = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    resized = rows.resize((side, SIDE), Image.Resampling.BILINEAR).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32).T
