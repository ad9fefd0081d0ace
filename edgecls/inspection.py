"""Missed defects and false alarms: a classifier of which one class is good and every other class is a defect.

An image is good if the good class's score reaches a threshold, or without one if that score is the highest. Numpy only.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError, DataError
from edgecls.evaluate import wilson_interval
from edgecls.images.folders import find_good_class
from edgecls.messages.numbers import percent
from edgecls.model_file.metadata import ModelSpec, is_good
from edgecls.validation import build

# Of a stored curve; the points with the fewest errors are all kept.
MOST_POINTS = 200
# Of the histogram that reports draw.
BINS = 40
# Of n scores the most extreme sqrt(n), but no fewer, tell how far others may go.
LEAST_TAIL = 3
# Standard errors of the tail's scale that are added to it. With a half, new images were within a limit of 2 % on
# average (1.8 %; magnetic tiles, 42 of 147 defects drawn 2,000 times), and without it they were not (2.1 %).
CAUTION = 0.5
SMALLEST_SCORE = 1e-6


@dataclass(frozen=True)
class Rates:
    """How many images were called wrongly."""

    defects: int  # images of a defect
    missed: int  # of these, called good
    good: int  # images of the good class
    false_alarms: int  # of these, called a defect

    def to_json(self) -> dict[str, Any]:
        """Return the counts, each fraction (`missed_rate`; null without images) and its 95 % interval (Wilson)."""
        missed, alarms = _fraction(self.missed, self.defects), _fraction(self.false_alarms, self.good)
        return {
            "defects": self.defects,
            "missed": self.missed,
            **dict(zip(("missed_rate", "missed_low", "missed_high"), missed, strict=True)),
            "good": self.good,
            "false_alarms": self.false_alarms,
            **dict(zip(("false_alarm_rate", "false_alarm_low", "false_alarm_high"), alarms, strict=True)),
        }

    def __str__(self) -> str:
        missed = _describe(self.missed, self.defects, "defects missed", "defect")
        return f"{missed}; {_describe(self.false_alarms, self.good, 'good images called a defect', 'good image')}"


@dataclass(frozen=True)
class Limit:
    """The largest fraction, 0..1, of defects that may be missed or of good images that may be called a defect."""

    kind: Literal["missed", "false_alarms"]
    rate: float

    @property
    def option(self) -> str:
        """Return it as it is typed."""
        return f"--max-{self.kind.replace('_', '-')} {self.rate:g}"


@dataclass(frozen=True)
class Curve:
    """Errors at every useful threshold, on images of which none was trained on.

    Attributes:
        points: (threshold, missed, false alarms), by rising threshold: fewer missed, more false alarms.
        tails: the scores of the good class that decide where few images are too few: of the defects the highest, and
            of the good images the lowest, the most extreme first.
    """

    defects: int  # images of a defect, at least 1
    good: int  # images of the good class, at least 1
    points: tuple[tuple[float, int, int], ...]
    tails: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ThresholdChoice:
    """A chosen threshold, its errors on the images that it was chosen on, and why it may not hold, or ""."""

    threshold: float
    rates: Rates
    doubt: str


def count_rates(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], good: int, threshold: float | None = None
) -> Rates:
    """Return the errors on images of `scores`, float (N, C), and true classes `labels`, int (N,); `good` is 0..C-1."""
    called, is_of_good = is_good(scores, good, threshold), labels == good
    return Rates(
        int((~is_of_good).sum()),
        int((called & ~is_of_good).sum()),
        int(is_of_good.sum()),
        int((~called & is_of_good).sum()),
    )


def measure_curve(scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], good: int) -> Curve:
    """Return the curve of images as `count_rates` takes them.

    A threshold lies halfway between the score of a good image and the next lower score of any image, so that an engine
    that rounds differently gives the same answers.

    Raises:
        DataError: there is no good image or no defect.
    """
    own, is_of_good = scores[:, good].astype(np.float64), labels == good
    for what, count in (("good image", is_of_good.sum()), ("image of a defect", (~is_of_good).sum())):
        if not count:
            raise DataError(f"no threshold can be chosen: the validation images have no {what}; add some")
    defects, passing = np.sort(own[~is_of_good]), np.unique(own[is_of_good])
    levels = np.unique(own)
    below = np.searchsorted(levels, passing) - 1
    thresholds = (np.where(below >= 0, levels[np.maximum(below, 0)], 0.0) + passing) / 2
    missed = len(defects) - np.searchsorted(defects, thresholds)
    alarms = np.searchsorted(np.sort(own[is_of_good]), thresholds)
    # Of several thresholds that miss as many, first the one with the fewest false alarms; then some between.
    _, first = np.unique(-missed, return_index=True)
    kept = np.union1d(first[-MOST_POINTS // 2 :], np.linspace(0, len(missed) - 1, MOST_POINTS // 2).astype(int))
    points = zip(thresholds[kept].tolist(), missed[kept].tolist(), alarms[kept].tolist(), strict=True)
    good_scores = np.sort(own[is_of_good])
    tails = {
        "missed": defects[::-1][: _tail_size(len(defects))].tolist(),
        "false_alarms": good_scores[: _tail_size(len(good_scores))].tolist(),
    }
    return Curve(len(defects), len(good_scores), tuple(points), tails)


def choose_threshold(curve: Curve, limit: Limit) -> ThresholdChoice:
    """Return the threshold that holds one kind of error to a limit with the fewest errors of the other kind.

    Of n images that could be errors of the limited kind, so many are allowed that the expected fraction of new images
    is within the limit: at most `rate * (n + 1) - 1` (conformal risk control, Angelopoulos et al. 2022,
    arXiv:2208.02814, section 2). Too few images allow none; then the threshold is that of `_extrapolate`, if it is
    stricter, and `doubt` says so.

    Raises:
        DataError: only a threshold that calls every image a defect, or every image good, is within the limit.
    """
    missed = limit.kind == "missed"
    images = curve.defects if missed else curve.good
    # The tolerance is for products such as 0.07 * 100.
    allowed = math.floor(limit.rate * (images + 1) + 1e-9) - 1
    fitting = [point for point in curve.points if point[1 if missed else 2] <= max(0, allowed)]
    if not missed:
        # The strictest threshold comes first, as it does for missed defects.
        fitting = [point for point in reversed(fitting) if point[1] < curve.defects]
    if allowed < 0:
        edge = _extrapolate(curve.tails.get(limit.kind, []), images, limit)
        fitting = [point for point in fitting if (point[0] >= edge if missed else point[0] <= edge)] or fitting
    if not fitting:
        what = "every good image a defect" if missed else "every defect good"
        raise DataError(
            f"{limit.option} cannot be held: of {curve.defects} defects and {curve.good} good validation images, only "
            f"a threshold that calls {what} does. Look at the images that score highest in mistakes.csv: labels may be "
            "wrong; or give a larger limit, or train longer"
        )
    threshold, missing, alarms = fitting[0]
    doubt = _doubt(limit, images) if allowed < 0 else ""
    return ThresholdChoice(threshold, Rates(curve.defects, missing, curve.good, alarms), doubt)


def _tail_size(images: int) -> int:
    return max(LEAST_TAIL, round(math.sqrt(images))) + 1


def _extrapolate(tail: Sequence[float], images: int, limit: Limit) -> float:
    """Return the score that new images exceed, in the direction of the errors, with the limit's rate.

    The logits of the most extreme scores have an exponential tail; the mean excess over the least extreme of them tells
    its scale (the estimator of Hill 1975, Annals of Statistics 3, p. 1163-1174, on logits).
    """
    sign, steps = (1 if limit.kind == "missed" else -1), len(tail) - 1
    if steps < LEAST_TAIL or not limit.rate:
        return -math.inf * sign
    bounded = np.clip(tail, SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    logits = sign * np.log(bounded / (1 - bounded))
    scale = (logits[:-1].mean() - logits[-1]) / (1 - CAUTION / math.sqrt(steps))
    edge = sign * (logits[-1] + scale * math.log(steps / (images * limit.rate)))
    return float(1 / (1 + np.exp(-edge)))


def _doubt(limit: Limit, images: int) -> str:
    what = "defects" if limit.kind == "missed" else "good"
    needed = f"{math.ceil(1 / limit.rate - 1e-9) - 1} are needed" if limit.rate else "no number shows that none is"
    return (
        f"{images} validation images are {what}, but {needed} to hold {100 * limit.rate:g} %. The threshold is "
        "estimated from the most extreme of their scores and allows no such error on them. Add validation images"
    )


def make_limit(max_missed: float | None, max_false_alarms: float | None) -> Limit | None:
    """Return the limit that is not None, or None; raise ConfigError for two."""
    if max_missed is not None and max_false_alarms is not None:
        raise ConfigError("--max-missed and --max-false-alarms exclude each other: one threshold holds one of them")
    if max_missed is not None:
        return Limit("missed", max_missed)
    return Limit("false_alarms", max_false_alarms) if max_false_alarms is not None else None


def inspect_file(
    spec: ModelSpec, good_class: str | None, limit: Limit | None
) -> Callable[[NDArray[np.floating[Any]], NDArray[np.integer[Any]]], dict[str, Any]] | None:
    """Return what measures scores and true classes as `inspection` of `evaluate --json`; None without a good class.

    Args:
        spec: the file's metadata.
        good_class: None is the file's own.
        limit: of a threshold that is chosen on the file's validation scores; None takes the file's threshold.

    Raises:
        DataError: no such class, or the limit cannot be held. ConfigError: the file has no validation scores of it.
    """
    if not (name := good_class or spec.good_class):
        if limit:
            raise ConfigError(f"{limit.option} needs the name of the class that is no defect; add --good-class NAME")
        return None
    good = find_good_class(name, spec.labels)
    own = spec.labels[good] == spec.good_class
    threshold, doubt = spec.good_threshold if own else None, ""
    if limit:
        choice = choose_threshold(_read_curve(spec, limit) if own else _refuse(limit, name), limit)
        threshold, doubt = choice.threshold, choice.doubt

    def measure(scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> dict[str, Any]:
        return {
            "good_class": spec.labels[good],
            "threshold": threshold,
            "limit": asdict(limit) if limit else None,
            "doubt": doubt,
            "held_out": count_rates(scores, labels, good, threshold).to_json(),
            "highest_score": count_rates(scores, labels, good).to_json(),
        }

    return measure


def _read_curve(spec: ModelSpec, limit: Limit) -> Curve:
    stored = spec.metrics.get("inspection")
    try:
        return build(Curve, stored["curve"] if isinstance(stored, dict) else None, "the validation scores")
    except (KeyError, ValueError):
        return _refuse(limit, spec.good_class)


def _refuse(limit: Limit, name: str) -> NoReturn:
    raise ConfigError(
        f"the file holds no validation scores of good images and defects with {name} as its good class, so "
        f"{limit.option} cannot be held; export it again: edgecls export RUN --int8 --good-class {shlex.quote(name)} "
        f"{limit.option}"
    )


def histogram(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], good: int, bins: int = BINS
) -> dict[str, list[int]]:
    """Return the number of good images and of defects by the good class's score, in equal bins from 0 to 1."""
    own = np.clip(scores[:, good], 0, 1)
    parts = {"good": own[labels == good], "defects": own[labels != good]}
    return {name: np.histogram(part, bins, (0, 1))[0].tolist() for name, part in parts.items()}


def _fraction(hits: int, images: int) -> tuple[float | None, float | None, float | None]:
    return (hits / images, *wilson_interval(hits, images)) if images else (None, None, None)


def _describe(hits: int, images: int, what: str, one: str) -> str:
    if not images:
        return f"no {one} to measure on"
    low, high = (percent(end) for end in wilson_interval(hits, images))
    return f"{hits} of {images} {what} ({percent(hits / images)}, 95 % interval {low} to {high})"
