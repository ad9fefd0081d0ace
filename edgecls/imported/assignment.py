"""Which output of a model stands for which class, from its scores on labeled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import confusion_matrix


def assign(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the output of each class, int64 (C,), that makes the mean recall of the classes greatest.

    Args:
        scores: float (N, C), column by output.
        labels: int64 (N,), 0..C-1.
    """
    counts = confusion_matrix(scores.argmax(1), labels, scores.shape[1]).astype(np.float64)
    return _least_cost(-counts / np.maximum(counts.sum(1, keepdims=True), 1))


def _least_cost(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column of each row of a square matrix, all different, with the least sum.

    The Hungarian method with potentials: Jonker & Volgenant 1987, Computing 38, p. 325-340.
    """
    size = len(costs)
    padded = np.zeros((size + 1, size + 1))
    padded[1:, 1:] = costs
    of_row, of_column = np.zeros(size + 1), np.zeros(size + 1)
    row_of, before = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    for row in range(1, size + 1):
        row_of[0], column = row, 0
        least, done = np.full(size + 1, np.inf), np.zeros(size + 1, bool)
        while row_of[column]:
            done[column] = True
            reduced = padded[row_of[column]] - of_row[row_of[column]] - of_column
            better = ~done & (reduced < least)
            better[0] = False
            least[better], before[better] = reduced[better], column
            open_columns = np.where(done, np.inf, least)
            open_columns[0] = np.inf
            following = int(open_columns.argmin())
            step = open_columns[following]
            of_row[row_of[done]] += step
            of_column[done] -= step
            least[~done] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    result = np.empty(size, np.int64)
    result[row_of[1:] - 1] = np.arange(size)
    return result
