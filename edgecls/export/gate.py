"""Whether a written file is as good as the float model, as statistics over the same held-out images.

Pure numpy: it sees two tables of scores and knows nothing of formats or runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import wilson_interval

# A prediction that hardly moves with the image: the float model spreads over classes, the file does not.
COLLAPSED_SHARE = 0.9
# Share of images whose best score is as good as 1: nothing is left to tell sure from unsure.
SATURATED_SHARE = 0.95
SATURATED_SCORE = 0.999


@dataclass(frozen=True)
class Comparison:
    """A file against the float model, image by image.

    Attributes:
        accuracy: share of images the file gets right, 0..1.
        accuracy_low: lower end of its 95 % interval (Wilson 1927).
        accuracy_high: upper end.
        drop: accuracy of the float model less that of the file.
        agreement: share of images on which both give the same label, 0..1.
        right_to_wrong: images that only the float model gets right.
        wrong_to_right: images that only the file gets right.
        mcnemar_p: chance of so uneven a pair of flips if both were equally good (McNemar 1947, exact binomial form).
        class_drop: label -> recall of the float model less that of the file.
        score_shift: mean of (the file's score - the float model's) for the float model's label.
        collapse: what kind of collapse it is, or "" if it is none.
        passed: True if `drop` is within the limit and nothing collapsed.
        verdict: all of it in a sentence.
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
    """Return how the file with `scores` does against the float model with `float_scores` on the same images.

    Args:
        scores: of the file, float32 (N, C).
        float_scores: of the float model, float32 (N, C).
        labels: true classes, int64 (N,).
        classes: the C labels.
        max_drop: largest drop of accuracy that passes.
    """
    guess, float_guess = scores.argmax(1), float_scores.argmax(1)
    right, float_right = guess == labels, float_guess == labels
    lost, won = int((float_right & ~right).sum()), int((right & ~float_right).sum())
    accuracy, drop = float(right.mean()), float(float_right.mean() - right.mean())
    low, high = wilson_interval(int(right.sum()), len(labels))
    rows = np.arange(len(labels))
    p_value, collapse = mcnemar_p(lost, won), _find_collapse(scores, float_scores, classes)
    # The tolerance is for rounding alone: 1 image more than allowed is always above it.
    passed = drop <= max_drop + 1e-9 and not collapse
    return Comparison(
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        drop=drop,
        agreement=float((guess == float_guess).mean()),
        right_to_wrong=lost,
        wrong_to_right=won,
        mcnemar_p=p_value,
        class_drop={
            name: float(float_right[labels == i].mean() - right[labels == i].mean())
            for i, name in enumerate(classes)
            if (labels == i).any()
        },
        score_shift=float((scores - float_scores)[rows, float_guess].mean()),
        collapse=collapse,
        passed=passed,
        verdict=_verdict(drop, max_drop, lost, won, p_value, collapse),
    )


def mcnemar_p(lost: int, won: int) -> float:
    """Return the two-sided exact p-value of `lost` against `won` flips, 0..1; 1 if nothing flipped.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
    p. 153-157, with the binomial distribution itself instead of its approximation.
    """
    flips = lost + won
    tail = sum(math.comb(flips, k) for k in range(min(lost, won) + 1))
    return min(1.0, float(2 * tail / 2**flips))


def _find_collapse(scores: NDArray[np.float32], float_scores: NDArray[np.float32], classes: Sequence[str]) -> str:
    def top_share(table: NDArray[np.float32]) -> tuple[float, int]:
        counts = np.bincount(table.argmax(1), minlength=len(classes))
        return float(counts.max() / len(table)), int(counts.argmax())

    def saturated(table: NDArray[np.float32]) -> float:
        return float((table.max(1) >= SATURATED_SCORE).mean())

    share, top = top_share(scores)
    if share >= COLLAPSED_SHARE > top_share(float_scores)[0]:
        return f"answers {classes[top]!r} for {share:.0%} of the images"
    if saturated(scores) >= SATURATED_SHARE and saturated(float_scores) < SATURATED_SHARE / 2:
        return f"is certain of {saturated(scores):.0%} of its answers: its scores are saturated"
    return ""


def _verdict(drop: float, max_drop: float, lost: int, won: int, p_value: float, collapse: str) -> str:
    flips = f"{lost} right answers became wrong, {won} wrong ones right"
    chance = "more than chance explains" if p_value < 0.05 else "within chance"
    if collapse:
        return f"collapsed: it {collapse} ({flips})"
    if drop > max_drop + 1e-9:
        return f"failed: {drop * 100:.2f} points of accuracy lost, {max_drop * 100:.2f} allowed ({flips}; {chance})"
    if lost == won == 0:
        return "passed: as right as the float model on every image"
    return f"passed: accuracy {-drop * 100:+.2f} points ({flips}; {chance})"
