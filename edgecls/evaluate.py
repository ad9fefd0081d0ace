"""Accuracy, recall, precision and calibration of a model from its scores. Needs numpy alone.

A class without images has no recall (None) and does not count in macro F1. The precision of a class that was never
predicted is 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.runtime.classifier import Classifier

# Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 2 and its tables.
ECE_BINS = 15
# An 8-bit score is a multiple of 1/256, and rounding may raise a float softmax above 1.
SCORE_TOLERANCE = 1e-3
# Two-sided 95 % of the normal distribution.
Z_95 = 1.959964
# Images between two calls of `progress`.
_CHUNK = 32


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class: recall (None without images) and precision 0..1, support in images."""

    recall: float | None
    precision: float
    support: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one model on one set of images."""

    images: int  # number of images
    accuracy: float  # fraction of images whose highest score is the true class, 0..1
    macro_f1: float  # mean F1 of the classes that have images, 0..1
    per_class: dict[str, ClassMetrics]  # label -> its metrics
    confusion: NDArray[np.int64]  # int64 (C, C), images by true class (rows) and predicted class (columns)
    ece: float  # expected calibration error over 15 equal bins, 0..1

    @property
    def missing_classes(self) -> list[str]:
        """Return the classes that have no image."""
        return [label for label, metrics in self.per_class.items() if not metrics.support]

    def to_json(self) -> dict[str, Any]:
        """Return what `evaluate --json` prints, without `file`."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "per_class": {label: asdict(metrics) for label, metrics in self.per_class.items()},
            "confusion": self.confusion.tolist(),
            "ece": self.ece,
        }


def evaluate(
    classifier: Classifier,
    split_images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Return the metrics of a classifier on images; the arguments are those of `score_images` and `score`."""
    # Checked first, because scoring may take minutes.
    _check_labels(labels, len(split_images), len(classifier.spec.labels))
    return score(score_images(classifier, split_images, progress), labels, classifier.spec.labels)


def score_images(
    classifier: Classifier, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Return the scores, float32 (N, C), of at least one image, uint8 (N, H, W, 1), 0..255; may be memory-mapped.

    `progress` is called with the number of images done and of all images.

    Raises:
        DataError: images of another shape or dtype.
    """
    parts = []
    for start in range(0, len(images), _CHUNK):
        parts.append(classifier.scores(images[start : start + _CHUNK]))
        if progress is not None:
            progress(min(start + _CHUNK, len(images)), len(images))
    return np.concatenate(parts)


def score(scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], classes: Sequence[str]) -> Evaluation:
    """Return the metrics of scores.

    Args:
        scores: probabilities, float (N, C), 0..1.
        labels: true classes, int (N,), 0..C-1.
        classes: the C labels in the order of the scores.

    Raises:
        DataError: another shape, dtype or range, NaN, or no image at all.
    """
    _check_labels(labels, len(scores), len(classes))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise DataError(f"scores must be (N, {len(classes)}), one column for each class; received {scores.shape}")
    # This form also refuses NaN.
    if not ((scores >= -SCORE_TOLERANCE) & (scores <= 1 + SCORE_TOLERANCE)).all():
        low, high = scores.min(), scores.max()
        raise DataError(f"scores must be probabilities 0..1; received {low} to {high}; add a softmax")
    predicted = scores.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, len(classes))
    hits, support, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, named), _ratio(2 * hits, support + named)
    return Evaluation(
        images=len(scores),
        accuracy=float(hits.sum() / len(scores)),
        macro_f1=float(f1[support > 0].mean()),
        per_class={
            name: ClassMetrics(float(recall[i]) if support[i] else None, float(precision[i]), int(support[i]))
            for i, name in enumerate(classes)
        },
        confusion=confusion,
        ece=_calibration_error(scores.max(axis=1), predicted == labels),
    )


def confusion_matrix(
    predicted: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Return int64 (C, C): images by true class (rows) and predicted class (columns)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def wilson_interval(hits: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a fraction of which `hits` in `trials` were seen; 95 % with the default `z`.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, p. 209-212: unlike
    the normal interval it stays inside 0..1 and is valid near both ends.
    """
    fraction, z2 = hits / trials, z**2
    center = (fraction + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(fraction * (1 - fraction) / trials + z2 / (4 * trials**2))
    # Rounding must not leave the fraction itself outside.
    return max(0.0, min(fraction, center - half)), min(1.0, max(fraction, center + half))


def _check_labels(labels: NDArray[Any], images: int, classes: int) -> None:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise DataError(f"labels must be int ({images},), one for each image; received {labels.dtype} {labels.shape}")
    if images == 0:
        raise DataError("there is no image to evaluate; pass a folder with images")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels must be 0 to {classes - 1}; received {labels.min()} to {labels.max()}")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return part / np.maximum(whole, 1)


def _calibration_error(confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> float:
    """Return the mean over images of |accuracy - mean confidence| of their bin; bin m holds ((m-1)/15, m/15]."""
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, correct - confidence, ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
