"""What a linear classifier that learned from all other images says of each image: exact, without N trainings.

Images of one group (`--group`) are left out together.

Ridge regression to one column for each class has a closed form, and so have its errors without each image in turn
(Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section 7.10, equation 7.64).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Penalties of the squared weights, the strongest first; features are standardized.
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# A feature with a smaller standard deviation is constant.
SMALLEST_DEVIATION = 1e-6


def label_each_from_the_others(
    features: NDArray[np.float16], labels: NDArray[np.int64], class_count: int, groups: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Return for each image, int64 (N,), the class that a classifier which learned from all others gives it.

    It did not learn from other images of the same group either.

    Of `PENALTIES`, the one with the most correct labels is taken.

    Args:
        features: (N, F).
        labels: int64 (N,), 0..class_count-1.
        class_count: number of classes.
        groups: of each image, "" for none; () for no groups.
    """
    together = [np.flatnonzero(np.array(groups) == name) for name in sorted(set(groups) - {""})]
    wanted = np.eye(class_count)[labels]
    mean = wanted.mean(0)
    vectors, values = _decompose(features.astype(np.float64))
    projected = vectors.T @ (wanted - mean)
    best = np.zeros(len(labels), np.int64)
    for penalty in PENALTIES:
        shrunk = values / (values + penalty)
        predicted = mean + vectors @ (shrunk[:, np.newaxis] * projected)
        leverage = vectors**2 @ shrunk + 1 / len(labels)
        without = wanted - (wanted - predicted) / np.maximum(1 - leverage, 1e-9)[:, np.newaxis]
        for group in together:
            own = vectors[group]
            rest = (1 + 1e-9) * np.eye(len(group)) - (own * shrunk) @ own.T - 1 / len(labels)
            without[group] = wanted[group] - np.linalg.solve(rest, (wanted - predicted)[group])
        found = without.argmax(1)
        if (found == labels).sum() > (best == labels).sum() or penalty == PENALTIES[0]:
            best = found
    return best


def _decompose(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the left singular vectors (N, R) of the standardized features, and the squared singular values (R,)."""
    from threadpoolctl import threadpool_limits

    deviation = features.std(0)
    scaled = (features - features.mean(0)) / np.where(deviation < SMALLEST_DEVIATION, 1, deviation)
    # The smaller of the two products has the same eigenvalues.
    is_wide = len(scaled) <= scaled.shape[1]
    # One thread: the result does not depend on their number, and on a busy machine they wait for each other.
    with threadpool_limits(1, user_api="blas"):
        values, vectors = np.linalg.eigh(scaled @ scaled.T if is_wide else scaled.T @ scaled)
        is_used = values > 1e-9 * values.max(initial=1e-300)
        values, vectors = values[is_used], vectors[:, is_used]
        return vectors if is_wide else scaled @ vectors / np.sqrt(values), values
