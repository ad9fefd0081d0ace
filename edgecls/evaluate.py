"""Accuracy, recall, precision and calibration of a model from its scores. Needs numpy alone.

A class without images has no recall (None) and does not count in macro F1. The precision of a class that was never
predicted is 0.0.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.files import write_atomically
from edgecls.messages.lists import counted
from edgecls.messages.names import as_cell, as_cell_path
from edgecls.runtime.classifier import Classifier

# Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 2 and its tables.
ECE_BINS = 15
# An 8-bit score is a multiple of 1/256, and rounding may raise a float softmax above 1.
SCORE_TOLERANCE = 1e-3
# Two-sided 95 % of the normal distribution.
Z_95 = 1.959964
# The usual significance level of a difference in accuracy.
SIGNIFICANT_P = 0.05
# Images between two calls of `progress`.
_CHUNK = 32
# Pairs of classes in a sentence.
MOST_CONFUSIONS = 3


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class, 0..1, and their 95 % intervals; what cannot be measured is None, but `precision` is 0.0.

    Attributes:
        recall: fraction of the class's images that are predicted as it.
        precision: fraction of the images predicted as it that are of the class.
        support: images of the class.
        f1: their harmonic mean.
        recall_interval: Wilson's, as all intervals here.
        precision_interval: of the images predicted as the class.
        f1_interval: from that of J, the fraction of correct ones among the images that are of the class or predicted
            as it, since F1 = 2 J / (1 + J).
    """

    recall: float | None
    precision: float
    support: int
    f1: float | None = None
    recall_interval: tuple[float, float] | None = None
    precision_interval: tuple[float, float] | None = None
    f1_interval: tuple[float, float] | None = None


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


def score_images(
    classifier: Classifier, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Return the scores, float32 (N, C), of at least one image, uint8 (N, H, W, 1), 0..255; may be memory-mapped.

    `progress` is called with the number of images done and of all images.

    Raises:
        DataError: images of another shape or dtype. ModelFileError: scores that are NaN or infinite.
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
        received = f"{scores.min()} to {scores.max()}"
        raise DataError(f"scores must be probabilities 0..1; received {received}; add a softmax")
    predicted = scores.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, len(classes))
    hits, support, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * hits / np.maximum(support + named, 1)
    return Evaluation(
        images=len(scores),
        accuracy=float(hits.sum() / len(scores)),
        macro_f1=float(f1[support > 0].mean()),
        per_class={
            name: _class_metrics(int(hits[i]), int(support[i]), int(named[i])) for i, name in enumerate(classes)
        },
        confusion=confusion,
        ece=calibration_error(scores.max(axis=1), predicted == labels),
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


def mcnemar_p(lost: int, won: int) -> float:
    """Return the two-sided exact p-value of `lost` and `won` labels, 0..1; 1 if there are none.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
    p. 153-157, with the exact binomial distribution.
    """
    flips = lost + won
    tail = sum(math.comb(flips, k) for k in range(min(lost, won) + 1))
    return min(1.0, float(2 * tail / 2**flips))


def count_flips(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many images are no longer labeled correctly, and how many newly are, as `mcnemar_p` takes them.

    Args:
        before: which images were labeled correctly, bool (N,).
        after: which are now, bool (N,).
    """
    return int((before & ~after).sum()), int((after & ~before).sum())


def _check_labels(labels: NDArray[Any], images: int, classes: int) -> None:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise DataError(f"labels must be int ({images},), one for each image; received {labels.dtype} {labels.shape}")
    if images == 0:
        raise DataError("there is no image to evaluate; pass a folder with images")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels must be 0 to {classes - 1}; received {labels.min()} to {labels.max()}")


def _class_metrics(hits: int, support: int, named: int) -> ClassMetrics:
    either = support + named - hits
    f1_interval = None
    if support:
        low, high = (2 * end / (1 + end) for end in wilson_interval(hits, either))
        f1_interval = low, high
    return ClassMetrics(
        recall=hits / support if support else None,
        precision=hits / max(named, 1),
        support=support,
        f1=2 * hits / (support + named) if support else None,
        recall_interval=wilson_interval(hits, support) if support else None,
        precision_interval=wilson_interval(hits, named) if named else None,
        f1_interval=f1_interval,
    )


def describe_confusions(evaluation: Evaluation, good_class: str = "") -> str:
    """Return one sentence about the pairs of classes that are confused most; "" if all images are correct.

    With a good class, defects that are taken for it come first: they are the ones that leave the factory.
    """
    labels, wrong = list(evaluation.per_class), evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    total = int(wrong.sum())
    if not total:
        return ""
    good = labels.index(good_class) if good_class else -1
    pairs = sorted(np.argwhere(wrong).tolist(), key=lambda pair: (pair[1] != good, -wrong[pair[0], pair[1]]))
    # Single mistakes are no pattern, unless there are only such.
    chosen = [pair for pair in pairs if wrong[pair[0], pair[1]] > 1][:MOST_CONFUSIONS] or pairs[:MOST_CONFUSIONS]
    listed = [
        f"{labels[row]} taken for {labels[column]} ({wrong[row, column]} of {evaluation.confusion[row].sum()})"
        for row, column in chosen
    ]
    count = int(sum(wrong[row, column] for row, column in chosen))
    return f"{count} of {counted(total, 'mistake')}: {', '.join(listed)}."


def write_mistakes(
    path: Path,
    paths: Sequence[str],
    labels: NDArray[np.integer[Any]],
    classes: Sequence[str],
    scores: NDArray[np.floating[Any]],
    float_scores: NDArray[np.floating[Any]] | None = None,
    *,
    flips: bool = False,
) -> int:
    """Write the incorrectly predicted images as CSV, the highest score first, and return their number.

    Columns: path, true, predicted, score; with `float_scores` also the float model's float_predicted and float_score.

    Args:
        path: of the CSV file, UTF-8.
        paths: of the N images.
        labels: true classes, int (N,).
        classes: the C labels.
        scores: float (N, C).
        float_scores: of the float model on the same images.
        flips: write the images that the float model labels differently instead.
    """
    predicted, compared = scores.argmax(1), labels
    if flips and float_scores is not None:
        compared = float_scores.argmax(1)
    chosen = np.flatnonzero(predicted != compared)
    chosen = chosen[np.argsort(-scores[chosen].max(1), kind="stable")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extra = [] if float_scores is None else ["float_predicted", "float_score"]
    writer.writerow(["path", "true", "predicted", "score", *extra])
    for i in chosen.tolist():
        row: list[object] = [as_cell_path(paths[i]), as_cell(classes[labels[i]]), *_best(classes, scores[i])]
        writer.writerow(row if float_scores is None else [*row, *_best(classes, float_scores[i])])
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file name may hold bytes that are not text; a reader of CSV expects UTF-8.
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))
    return len(chosen)


def _best(classes: Sequence[str], scores: NDArray[np.floating[Any]]) -> tuple[str, str]:
    return as_cell(classes[int(scores.argmax())]), f"{scores.max():.4f}"


def calibration_error(confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> float:
    """Return the mean over images of |accuracy - mean confidence| of their bin; bin m holds ((m-1)/15, m/15]."""
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, correct - confidence, ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
