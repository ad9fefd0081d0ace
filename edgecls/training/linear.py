"""The linear classifier on fixed features, solved to its optimum: multinomial logistic regression by L-BFGS.

The loss is convex, so there is one optimum, and no learning rate, number of epochs or random start to choose. The
features are standardized while it is solved, so that one L2 strength suits all of them; the scaling is folded into the
weights that are returned (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, sections 3.4 and 4.4).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import MissingDependency
from edgecls.training.features.cache import Features

Rows = Features | NDArray[Any]
Indices = NDArray[np.int64]
Block = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
Blocks = Callable[[], Iterator[Block]]

# Factors of half the sum of the squared weights, beside the sum of the images' losses, the strongest first: each
# solution is the start of the next. They are the inverse of scikit-learn's C.
L2_STRENGTHS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
# A feature that hardly varies would get a large weight, for what is mostly noise: that of int8 too. So a standard
# deviation below this fraction of the features' median counts as this fraction.
LEAST_DEVIATION = 1.0
FOLDS = 5
# Enough to choose the strength on.
MOST_CHOSEN_ON = 10_000
# The original counts as much as all of its augmented copies together.
ORIGINAL_WEIGHT = 0.5
# Features of more bytes are read from the cache and scaled in every iteration instead of once.
MEMORY_BYTES = 2 * 10**9
BLOCK_IMAGES = 8192
MOST_ITERATIONS = 300
# Of the mean loss: a relative fall below it in one iteration ends the solver.
TOLERANCE = 1e-6
# A feature with a smaller standard deviation is constant.
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A solved classifier.

    Attributes:
        chosen_on: int64 (M,), the training images on which the strength was chosen; None if it was given.
        scores: float32 (M, C), their softmax scores by classifiers that did not see them.
    """

    kernel: NDArray[np.float32]  # float32 (F, C), for features as they are
    bias: NDArray[np.float32]  # float32 (C,)
    l2: float  # the strength
    chosen_on: Indices | None = None
    scores: NDArray[np.float32] | None = None

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return softmax scores, float32 (N, C), of features (N, F)."""
        return softmax(features.astype(np.float32) @ self.kernel + self.bias)


def fit_linear(
    copies: Sequence[Rows],
    labels: Indices,
    class_count: int,
    *,
    class_weights: Sequence[float] | None = None,
    l2: float | None = None,
    seed: int = 0,
    deadline: float | None = None,
    least_deviation: float = LEAST_DEVIATION,
) -> LinearFit:
    """Return the linear classifier with the least cross-entropy and L2 penalty.

    Args:
        copies: features (N, F) of the images, then of each augmented copy of them, if there are any.
        labels: int64 (N,), 0..C-1.
        class_count: C.
        class_weights: factor of the loss of each class's images; None is 1 for all.
        l2: strength of the penalty; None chooses one of `L2_STRENGTHS` by cross-validation over the images.
        seed: of the folds.
        deadline: `time.monotonic()` at which to stop with what is solved so far; the result then depends on the time.
        least_deviation: a standard deviation below this fraction of the features' median counts as this fraction; 0
            for features whose scales say nothing.

    Raises:
        MissingDependency: SciPy or threadpoolctl is not installed.
    """
    threadpool_limits = _load_solver()
    weights = np.ones(class_count) if class_weights is None else np.asarray(class_weights, np.float64)
    chosen = scores = None
    # One thread, so that the result does not depend on their number. On a busy machine it was ten times faster than
    # two, which wait for each other after each small product.
    with threadpool_limits(1, user_api="blas"):
        if l2 is None:
            l2, chosen, scores = _choose_l2(copies[0], labels, weights, seed, deadline, least_deviation)
        kernel, bias = _solve(copies, np.arange(len(labels)), labels, weights, [l2], deadline, least_deviation)[-1]
    return LinearFit(kernel, bias, l2, chosen, scores)


def _load_solver() -> Any:
    try:
        import scipy.optimize  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependency(
            f"the classifier is solved by SciPy ({error}): pip install 'edgecls[train]', or train with --solver sgd"
        ) from error
    return threadpool_limits


def _choose_l2(
    images: Rows,
    labels: Indices,
    weights: NDArray[np.float64],
    seed: int,
    deadline: float | None,
    least_deviation: float,
) -> tuple[float, Indices, NDArray[np.float32]]:
    """Return (the strength, images that it was chosen on, their scores by classifiers that did not see them)."""
    chosen = np.sort(np.random.default_rng([seed, 1]).permutation(len(labels))[:MOST_CHOSEN_ON])
    fold_of = folds(labels[chosen], FOLDS, seed)
    scores = np.zeros((len(L2_STRENGTHS), len(chosen), len(weights)), np.float32)
    for fold in np.unique(fold_of):
        solved = _solve([images], chosen[fold_of != fold], labels, weights, L2_STRENGTHS, deadline, least_deviation)
        features = _take(images, chosen[fold_of == fold])
        for place, (kernel, bias) in enumerate(solved):
            scores[place, fold_of == fold] = softmax(features @ kernel + bias)
    errors = [squared_error(each, labels[chosen], weights) for each in scores]
    best = int(np.argmin(errors))
    return L2_STRENGTHS[best], chosen, scores[best]


def folds(labels: Indices, count: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image, int64 (N,), 0..count-1: the images of each class are spread evenly."""
    random = np.random.default_rng([seed, 2])
    result = np.zeros(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        # Not all begin with the first fold, which would get all classes with a single image.
        result[members] = (start + np.arange(len(members))) % count
        start += len(members)
    return result


def cross_entropy(scores: NDArray[Any], labels: Indices, weights: NDArray[np.float64] | None = None) -> float:
    """Return the mean cross-entropy of softmax scores (N, C), each image weighted by its class."""
    each = -np.log(np.maximum(scores[np.arange(len(labels)), labels].astype(np.float64), np.finfo(np.float32).tiny))
    return float(np.average(each, weights=None if weights is None else weights[labels]))


def squared_error(scores: NDArray[Any], labels: Indices, weights: NDArray[np.float64] | None = None) -> float:
    """Return the mean squared error of softmax scores (N, C), each image weighted by its class (Brier 1950).

    Unlike cross-entropy, it is not ruled by a few images that are confidently misclassified: on photographs it was
    lowest where accuracy was highest.
    """
    targets = np.eye(scores.shape[1], dtype=np.float32)[labels]
    each = ((scores - targets) ** 2).sum(1, dtype=np.float64)
    return float(np.average(each, weights=None if weights is None else weights[labels]))


def softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Return softmax scores of logits (N, C)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return result


def _take(rows: Rows, chosen: Indices) -> NDArray[np.float32]:
    return (rows.take(chosen) if isinstance(rows, Features) else rows[chosen]).astype(np.float32)


def _solve(
    copies: Sequence[Rows],
    chosen: Indices,
    labels: Indices,
    weights: NDArray[np.float64],
    strengths: Sequence[float],
    deadline: float | None,
    least_deviation: float,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return (kernel, bias) for each strength, of the images `chosen`."""
    import scipy.optimize

    mean, deviation = _moments(copies[0], chosen)
    varying = deviation > SMALLEST_DEVIATION
    if varying.any():
        deviation = np.maximum(deviation, least_deviation * np.median(deviation[varying]))
    deviation[~varying] = 1.0
    blocks = _standardized(copies, chosen, labels, weights, mean, deviation)
    shape = len(mean) + 1, len(weights)
    total = float(weights[labels[chosen]].sum())
    start, solved = np.zeros(shape).ravel(), []

    def stop(_: NDArray[np.float64]) -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise StopIteration

    for strength in strengths:
        found = scipy.optimize.minimize(
            functools.partial(_loss, blocks, shape, strength, total),
            start,
            jac=True,
            method="L-BFGS-B",
            callback=stop,
            options={"maxiter": MOST_ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0},
        )
        start = found.x
        kernel = start.reshape(shape)[:-1] / deviation[:, np.newaxis]
        bias = start.reshape(shape)[-1] - mean @ kernel
        solved.append((kernel.astype(np.float32), bias.astype(np.float32)))
    return solved


def _moments(images: Rows, chosen: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (mean, standard deviation) of each feature, float64 (F,)."""
    parts = _parts(chosen)
    # Around the first block's mean, so that large means cost no digits.
    origin = _take(images, parts[0]).mean(0, dtype=np.float64)
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for part in parts:
        features = _take(images, part) - origin
        total += features.sum(0)
        squares += (features**2).sum(0)
    shift = total / len(chosen)
    deviation = np.sqrt(np.maximum(squares / len(chosen) - shift**2, 0))
    return origin + shift, deviation


def _standardized(
    copies: Sequence[Rows],
    chosen: Indices,
    labels: Indices,
    weights: NDArray[np.float64],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> Blocks:
    """Return a function that yields (standardized features with a column of ones, labels, weights) block by block."""
    others = len(copies) - 1

    def read() -> Iterator[Block]:
        for number, copy in enumerate(copies):
            share = 1.0 if not others else 1 - ORIGINAL_WEIGHT if not number else ORIGINAL_WEIGHT / others
            for part in _parts(chosen):
                block = np.ones((len(part), len(mean) + 1), np.float32)
                block[:, :-1] = (_take(copy, part) - mean.astype(np.float32)) / deviation.astype(np.float32)
                yield block, labels[part], (share * weights[labels[part]]).astype(np.float32)

    if len(copies) * len(chosen) * (len(mean) + 1) * np.dtype(np.float32).itemsize > MEMORY_BYTES:
        return read
    kept = list(read())
    return lambda: iter(kept)


def _parts(chosen: Indices) -> list[Indices]:
    return np.array_split(chosen, max(1, -(-len(chosen) // BLOCK_IMAGES)))


def _loss(
    blocks: Blocks, shape: tuple[int, int], strength: float, total: float, flat: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return (mean loss with the penalty, its gradient)."""
    solution = flat.reshape(shape)
    # The last row is the bias, which is not penalized.
    kernel = solution[:-1]
    loss = strength / 2 * float((kernel**2).sum())
    gradient = np.zeros(shape)
    gradient[:-1] = strength * kernel
    solution32 = solution.astype(np.float32)
    for features, labels, weights in blocks():
        scores = softmax(features @ solution32)
        rows = np.arange(len(labels))
        loss += float(weights @ -np.log(np.maximum(scores[rows, labels], np.finfo(np.float32).tiny)))
        scores[rows, labels] -= 1
        gradient += features.T @ (scores * weights[:, np.newaxis])
    return loss / total, gradient.ravel() / total
