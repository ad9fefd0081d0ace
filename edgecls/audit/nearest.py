"""The nearest of many vectors, found block by block, so that memory does not grow with the square of their number."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCK = 256
# Less than any product.
_NONE = -2.0


def project(rows: Floats, count: int) -> Floats:
    """Return the rows, float32 (N, F), in their `count` principal components at most, each with a norm of 1."""
    mean, covariance = rows.mean(0), np.zeros((rows.shape[1], rows.shape[1]), np.float32)
    parts = np.array_split(rows, -(-len(rows) // 8192))
    for part in parts:
        covariance += (part - mean).T @ (part - mean)
    _, vectors = np.linalg.eigh(covariance)
    kept = vectors[:, rows.shape[1] - min(count, *rows.shape) :]
    result: Floats = np.concatenate([(part - mean) @ kept for part in parts])
    result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-6)
    return result


def blocks_of_nearest(rows: Floats, count: int) -> Iterator[tuple[int, Floats, NDArray[np.int64]]]:
    """Yield for each block of rows: number of its first one, products with all rows, and indices of the nearest rows.

    The products are float32 (B, N), -2 for a row with itself. The indices are int64 (B, count), the nearest first, or
    (B, N - 1) of fewer rows.
    """
    count = min(count, len(rows) - 1)
    # In groups, of which the nearest ones have the highest maxima: sorting all products takes ten times as long.
    group = max(1, math.isqrt(len(rows)))
    padded = np.concatenate([rows, np.zeros((-len(rows) % group, rows.shape[1]), np.float32)])
    for start in range(0, len(rows) if count > 0 else 0, BLOCK):
        alike = rows[start : start + BLOCK] @ padded.T
        own = np.arange(len(alike))
        alike[:, len(rows) :] = alike[own, start + own] = _NONE
        yield start, alike[:, : len(rows)], _nearest(alike, group, count)


def _nearest(alike: Floats, group: int, count: int) -> NDArray[np.int64]:
    maxima = alike.reshape(len(alike), -1, group).max(2)
    groups = np.argsort(-maxima, axis=1)[:, :count]
    likely = (groups[:, :, np.newaxis] * group + np.arange(group)).reshape(len(alike), -1)
    order = np.argsort(-np.take_along_axis(alike, likely, 1), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(likely, order, 1)
