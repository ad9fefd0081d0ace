"""Compares the scores of an exported file with the float model's on the same held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import SIGNIFICANT_P, count_flips, mcnemar_p, wilson_interval
from edgecls.messages.numbers import percent

# Collapsed: the file gives this fraction of the images one label, and the float model does not.
COLLAPSED_FRACTION = 0.9
# Saturated: this fraction of the images has a best score of almost 1, so scores no longer express doubt.
SATURATED_FRACTION = 0.95
SATURATED_SCORE = 0.999
# Mean difference of the score for the float model's label, above which scores mean something else. Int8 files differ by
# 0.01 to 0.05.
MOST_DIFFERENCE = 0.25


@dataclass(frozen=True)
class Comparison:
    """A file against the float model, image by image.

    Attributes:
        accuracy: fraction of images that the file labels correctly, 0..1.
        accuracy_low: lower end of its 95 % interval (Wilson 1927).
        accuracy_high: upper end.
        drop: accuracy of the float model less that of the file.
        agreement: fraction of images on which both give the same label, 0..1.
        right_to_wrong: images that only the float model labels correctly.
        wrong_to_right: images that only the file labels correctly.
        mcnemar_p: p-value of these two counts if both were equally good (McNemar 1947, exact binomial form).
        class_drop: label -> recall of the float model less that of the file.
        score_shift: mean of (the file's score - the float model's) for the float model's label.
        score_difference: mean of its absolute value, 0..1.
        collapse: how the file's scores collapsed, or "".
        passed: True if `drop` is within the limit and nothing collapsed.
        verdict: the result in one sentence.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    drop: float
    agreement: float
    right_to_wrong: int
    wrong_to_right: int
    mcnemar_p: float
    class_drop: dict[str, float]
    score_shift: float
    score_difference: float
    collapse: str
    passed: bool
    verdict: str


def compare(
    scores: NDArray[np.float32],
    float_scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    max_drop: float,
) -> Comparison:
    """Compare a file's scores, float32 (N, C), with the float model's on images of the true classes `labels`."""
    label, float_label = scores.argmax(1), float_scores.argmax(1)
    correct, float_correct = label == labels, float_label == labels
    lost, won = count_flips(float_correct, correct)
    accuracy, drop = float(correct.mean()), float(float_correct.mean() - correct.mean())
    low, high = wilson_interval(int(correct.sum()), len(labels))
    shifts = (scores - float_scores)[np.arange(len(labels)), float_label]
    p_value, collapse = mcnemar_p(lost, won), _find_collapse(scores, float_scores, classes)
    difference = float(np.abs(shifts).mean())
    # The tolerance is for rounding errors: one image more than allowed is always above it.
    is_within = drop <= max_drop + 1e-9
    if is_within and not collapse and not difference <= MOST_DIFFERENCE:
        collapse = f"gives other scores, by {difference:.2f} on average for the float model's label"
    return Comparison(
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        drop=drop,
        agreement=float((label == float_label).mean()),
        right_to_wrong=lost,
        wrong_to_right=won,
        mcnemar_p=p_value,
        class_drop={
            name: float(float_correct[labels == i].mean() - correct[labels == i].mean())
            for i, name in enumerate(classes)
            if (labels == i).any()
        },
        score_shift=float(shifts.mean()),
        score_difference=difference,
        collapse=collapse,
        passed=is_within and not collapse,
        verdict=_verdict(drop, max_drop, lost, won, p_value, collapse),
    )


def _find_collapse(scores: NDArray[np.float32], float_scores: NDArray[np.float32], classes: Sequence[str]) -> str:
    def most_frequent(table: NDArray[np.float32]) -> tuple[float, int]:
        counts = np.bincount(table.argmax(1), minlength=len(classes))
        return float(counts.max() / len(table)), int(counts.argmax())

    def saturated(table: NDArray[np.float32]) -> float:
        return float((table.max(1) >= SATURATED_SCORE).mean())

    fraction, label = most_frequent(scores)
    if fraction >= COLLAPSED_FRACTION > most_frequent(float_scores)[0]:
        return f"labels {percent(fraction, 0)} of the images {classes[label]!r}"
    if saturated(scores) >= SATURATED_FRACTION and saturated(float_scores) < SATURATED_FRACTION / 2:
        return f"has saturated scores: {percent(saturated(scores), 0)} of the images score almost 1"
    return ""


def _verdict(drop: float, max_drop: float, lost: int, won: int, p_value: float, collapse: str) -> str:
    flips = f"{lost} got worse, {won} got better"
    significance = "significant" if p_value < SIGNIFICANT_P else "not significant"
    if collapse:
        return f"collapsed: the file {collapse} ({flips})"
    if drop > max_drop + 1e-9:
        limit = f"at most {max_drop * 100:.2f} may be lost"
        return f"failed: {format_change(drop)} points, {limit} ({flips}; {significance})"
    if lost == won == 0:
        return "passed: same result as the float model on every image"
    return f"passed: {format_change(drop)} points ({flips}; {significance})"


def format_change(drop: float) -> str:
    """Return a change of accuracy in points, such as "-0.28", from a `drop` of it, such as 0.0028."""
    # Adding zero turns -0.0 into 0.0.
    return f"{round(-drop * 100, 2) + 0.0:+.2f}"
