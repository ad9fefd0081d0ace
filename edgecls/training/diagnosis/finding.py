"""A finding of the diagnosis, and the scores that part of the rules judge. Imports numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.evaluate import confusion_matrix, wilson_interval

Severity = Literal["error", "warning", "note"]
# In the order in which findings are reported.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# Severity, text and remedy of a finding; then the settings that its first option sets, if a run can try them.
Problem = tuple[Severity, str, str] | tuple[Severity, str, str, dict[str, Any]]
# Two-sided 99 % of the normal distribution: with 95 %, one class in twenty would be blamed by chance.
Z_99 = 2.575829


@dataclass(frozen=True)
class Finding:
    """One problem that the diagnosis found.

    Attributes:
        settings: of `TrainConfig`, that the first option of the remedy sets, if a run can try it at once.
    """

    name: str  # for scripts, such as "vanishing-gradients"; "no-problems" if none was found ("healthy" in older runs)
    severity: Severity  # "error" (the run is useless as it is), "warning" (accuracy is lost), or "note" (good to know)
    text: str  # what was measured, with numbers
    remedy: str  # what to try next, the best first; "" if nothing is needed
    settings: dict[str, Any] = field(default_factory=dict)
    effect: str = ""  # what this run measured with these settings, or ""


@dataclass(frozen=True, eq=False)
class Scored:
    """The images of one split, and the scores that the trained network gives them.

    Attributes:
        scores: float (N, C), 0..1; or (copies, N, C) with the images themselves first and augmented copies after them.
    """

    part: str  # "training", "validation" or "test"
    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]  # given classes, int (N,), 0..C-1
    paths: Sequence[str] = field(default=(), repr=False)  # of the N images; may be left out

    def __post_init__(self) -> None:
        """Raise DataError for arrays that do not fit each other."""
        if self.scores.ndim not in (2, 3) or self.scores.shape[-2] != len(self.labels):
            raise DataError(
                f"scores must be (N, C) or (copies, N, C), N = {len(self.labels)} as the labels; "
                f"received {self.scores.shape}"
            )
        if len(self.paths) not in (0, len(self.labels)):
            raise DataError(f"paths must be {len(self.labels)}, one a label, or none; received {len(self.paths)}")

    @property
    def copies(self) -> NDArray[np.floating[Any]]:
        """Return the scores as (copies, N, C)."""
        return self.scores if self.scores.ndim == 3 else self.scores[np.newaxis]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Return int64 (C, C): images by given class (rows) and predicted class (columns)."""
        return confusion_matrix(self.copies[0].argmax(axis=1), self.labels, self.scores.shape[-1])

    @property
    def accuracy(self) -> float:
        """Return the fraction of images whose highest score is the given class, 0..1; NaN without images."""
        return float(self.confusion.trace() / len(self.labels)) if len(self.labels) else math.nan


def confidence_interval(hits: int, images: int, comparisons: int = 1) -> tuple[float, float]:
    """Return the 99 % interval of the fraction of which `hits` of `images` were seen; 0 to 1 without images.

    Of several `comparisons`, each gets a wider one, so that all hold together with 99 % (Bonferroni).
    """
    z = Z_99 if comparisons == 1 else NormalDist().inv_cdf(1 - 0.005 / comparisons)
    return wilson_interval(hits, images, z) if images else (0.0, 1.0)
