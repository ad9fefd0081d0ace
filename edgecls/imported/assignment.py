"""Which output of a model stands for which class, from its scores on labeled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import confusion_matrix


def assign(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the output of each class, int64 (C,), all different, that makes the mean recall of the classes greatest.

    Args:
        scores: float (N, C), column by output.
        labels: int64 (N,), 0..C-1.
    """
    import scipy.optimize

    counts = confusion_matrix(scores.argmax(1), labels, scores.shape[1])
    recall = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return np.asarray(scipy.optimize.linear_sum_assignment(recall, maximize=True)[1], np.int64)
