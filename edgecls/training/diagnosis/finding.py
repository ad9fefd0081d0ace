"""What the diagnosis says, and the scores that part of it is drawn from. Imports numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.evaluate import wilson_interval

Severity = Literal["error", "warning", "note"]
# The worst first: the order in which findings are told.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# Stands for whatever is larger, infinite or NaN: sums and ratios of it are still numbers.
HUGE = 1e30
# Two-sided 99 % of the normal distribution: with 95 % one class in twenty would be blamed for its luck.
Z_99 = 2.575829


@dataclass(frozen=True)
class Finding:
    """One thing that the diagnosis saw.

    Attributes:
        name: of the illness, for scripts, as "vanishing-gradients".
        severity: "error" (the run is useless as it is), "warning" (accuracy is lost), or "note" (good to know).
        text: what was seen, with numbers, in plain words.
        remedy: what to try next.
    """

    name: str
    severity: Severity
    text: str
    remedy: str


@dataclass(frozen=True, eq=False)
class Scored:
    """The images of one part of the data, and what the trained network says of them.

    Attributes:
        part: "training", "validation" or "test".
        scores: float (N, C), 0..1; or (looks, N, C) with the images themselves first and views of them after.
        labels: given classes, int (N,), 0..C-1.
        paths: of the N images; may be left out.
    """

    part: str
    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    paths: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Raise DataError for arrays that do not fit each other."""
        if self.scores.ndim not in (2, 3) or self.scores.shape[-2] != len(self.labels):
            raise DataError(
                f"scores must be (N, C) or (looks, N, C), N = {len(self.labels)} as the labels; "
                f"received {self.scores.shape}"
            )
        if len(self.paths) not in (0, len(self.labels)):
            raise DataError(f"paths must be {len(self.labels)}, one a label, or none; received {len(self.paths)}")

    @property
    def looks(self) -> NDArray[np.floating[Any]]:
        """Return the scores as (looks, N, C)."""
        return self.scores if self.scores.ndim == 3 else self.scores[np.newaxis]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Return the class of the highest score of each image itself, int64 (N,)."""
        predicted: NDArray[np.int64] = self.looks[0].argmax(axis=1)
        return predicted

    @property
    def accuracy(self) -> float:
        """Return the share of images whose highest score is the given class, 0..1; NaN without images."""
        return float((self.predicted == self.labels).mean()) if len(self.labels) else math.nan


def likely_range(hits: int, images: int) -> tuple[float, float]:
    """Return the 99 % interval of a share of which `hits` of `images` were seen (Wilson 1927).

    Few images prove little: 3 of 4 may be a share of 0.2 or of 0.97.
    """
    if images == 0:
        return 0.0, 1.0
    return wilson_interval(hits, images, Z_99)


def bounded(values: object) -> NDArray[np.float64]:
    """Return float64 of the same shape, without infinite values and NaN: they become `HUGE`."""
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=HUGE), -HUGE, HUGE)
