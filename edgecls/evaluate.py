"""How good an exported file is, read off its own scores. Needs numpy alone.

A class without images has no recall (None), and does not count in macro F1. The precision of a class that was never
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
# An 8-bit score is a multiple of 1/256, and a float softmax may pass 1 by a rounding.
SCORE_TOLERANCE = 1e-3
# Two-sided 95 % of the normal distribution.
Z_95 = 1.959964
# Images between two calls of `progress`.
_CHUNK = 32


@dataclass(frozen=True)
class ClassMetrics:
    """Figures of one class: recall (None without images) and precision 0..1, support in images."""

    recall: float | None
    precision: float
    support: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one file on one set of images.

    Attributes:
        images: how many there were.
        accuracy: share of images whose highest score is the true class, 0..1.
        macro_f1: mean of the F1 of all classes that have images, each counting the same, 0..1.
        per_class: label -> its figures.
        confusion: int64 (C, C), images by true class (rows) and predicted class (columns).
        ece: expected calibration error over 15 equal bins, 0..1.
    """

    images: int
    accuracy: float
    macro_f1: float
    per_class: dict[str, ClassMetrics]
    confusion: NDArray[np.int64]
    ece: float

    @property
    def unjudged(self) -> list[str]:
        """Return the classes of the model that have no image here."""
        return [label for label, metrics in self.per_class.items() if not metrics.support]

    def to_json(self) -> dict[str, Any]:
        """Return the keys that `evaluate --json` prints, all but `file`."""
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
    """Return the figures of a classifier on ready images.

    Args:
        classifier: an exported file, loaded.
        split_images: uint8 (N, H, W, 1), 0..255; may be memory-mapped.
        labels: true classes, int (N,), 0..C-1.
        progress: called with (images done, images in all) now and then.

    Raises:
        DataError: images or labels of another shape, dtype or range, or none at all.
    """
    # Looked at before the minutes that the images take, not after.
    _check_labels(labels, len(split_images), len(classifier.spec.labels))
    return score(score_images(classifier, split_images, progress), labels, classifier.spec.labels)


def score_images(
    classifier: Classifier, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Return the scores, float32 (N, C), of ready images, telling how far it is.

    Args:
        classifier: an exported file, loaded.
        images: uint8 (N, H, W, 1), 0..255, at least one; may be memory-mapped.
        progress: called with (images done, images in all) now and then.

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
    """Return the figures of ready scores.

    Args:
        scores: probabilities, float (N, C), 0..1.
        labels: true classes, int (N,), 0..C-1.
        classes: the C labels in the order of the scores.

    Raises:
        DataError: another shape, dtype or range, NaN, or no image at all.
    """
    _check_labels(labels, len(scores), len(classes))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise DataError(f"scores must be (N, {len(classes)}), one column a class; received {scores.shape}")
    # Written so that NaN fails too.
    if not ((scores >= -SCORE_TOLERANCE) & (scores <= 1 + SCORE_TOLERANCE)).all():
        low, high = scores.min(), scores.max()
        raise DataError(f"scores must be probabilities 0..1; received {low} to {high}; end the model with a softmax")
    predicted = scores.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, len(classes))
    hits, support, guesses = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, guesses), _ratio(2 * hits, support + guesses)
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
    """Return the interval of a share of `hits` in `trials`, `z` standard deviations either way: 95 % as it is.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, p. 209-212: unlike
    the normal interval it stays inside 0..1 and holds near both ends.
    """
    share, z2 = hits / trials, z**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    # Rounding must not push the share itself out.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _check_labels(labels: NDArray[Any], images: int, classes: int) -> None:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise DataError(f"labels must be int ({images},), one an image; received {labels.dtype} {labels.shape}")
    if images == 0:
        raise DataError("there is no image to evaluate; pass a folder that holds some")
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
