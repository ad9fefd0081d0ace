"""Missed defects and false alarms of an exported file: the threshold, the rates on held-out images, their picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import ExportConfig
from edgecls.errors import ConfigError
from edgecls.evaluate import score_images
from edgecls.export.calibration import ExportSamples
from edgecls.images.folders import find_good_class
from edgecls.images.matplotlib_figure import new_figure
from edgecls.inspection import (
    Curve,
    Limit,
    ThresholdChoice,
    choose_threshold,
    count_rates,
    histogram,
    make_limit,
    measure_curve,
)
from edgecls.runtime.classifier import Classifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a file with a good class is measured on, and what was found.

    Attributes:
        validation: errors at every threshold on the validation images; None if these lack good images or defects.
    """

    good_class: str  # its name
    index: int  # of the good class
    limit: Limit | None  # what the threshold holds; None if the highest score decides
    choice: ThresholdChoice | None  # the threshold; None if the highest score decides
    validation: Curve | None
    held_out: Scores  # scores of the held-out images, float32 (N, C)
    labels: NDArray[np.int64]  # true classes of the held-out images
    split: str  # "test" or "val": which images are held out

    @property
    def threshold(self) -> float | None:
        """Return the score of the good class from which an image is good; None if the highest score decides."""
        return self.choice.threshold if self.choice else None

    def to_json(self) -> dict[str, Any]:
        """Return `inspection` of export.json."""
        measured = count_rates(self.held_out, self.labels, self.index, self.threshold)
        return {
            "good_class": self.good_class,
            "threshold": self.threshold,
            "limit": asdict(self.limit) if self.limit else None,
            "doubt": self.choice.doubt if self.choice else "",
            "validation": self.choice.rates.to_json() if self.choice else None,
            "split": self.split,
            "held_out": measured.to_json(),
            "highest_score": count_rates(self.held_out, self.labels, self.index).to_json(),
            "histogram": histogram(self.held_out, self.labels, self.index),
        }

    def to_metadata(self) -> dict[str, Any]:
        """Return what the file itself holds: `to_json`, and the curve from which another threshold can be chosen."""
        kept = {name: value for name, value in self.to_json().items() if name != "histogram"}
        return kept | {"curve": asdict(self.validation) if self.validation else None}


def find_good(record: dict[str, Any], config: ExportConfig) -> str:
    """Return the good class of the export, else of the run with this run.json; "" for none.

    Raises:
        DataError: it is none of the run's classes. ConfigError: two limits are given, or one, but no good class.
    """
    # First, because a conversion may take minutes.
    limit = make_limit(config.max_missed, config.max_false_alarms)
    if name := config.good_class or str(record["config"].get("good_class") or ""):
        return str(record["classes"][find_good_class(name, record["classes"])])
    if limit:
        raise ConfigError(f"{limit.option} needs the name of the class that is no defect; add --good-class NAME")
    return ""


def inspect(
    good: str,
    config: ExportConfig,
    samples: ExportSamples,
    classifier: Classifier,
    scores: Scores,
    unseen: Scores | None,
    progress: Callable[[int, int], None],
) -> Inspection:
    """Return the errors of a written file; `scores`, float32 (N, C), are those of its held-out images.

    Where the classifier learned from the validation images at last, `unseen` has their scores from before; the written
    file would call them too well.

    Raises:
        DataError: the limit cannot be held.
    """
    index, limit = classifier.spec.labels.index(good), make_limit(config.max_missed, config.max_false_alarms)
    validation, curve = samples.validation, None
    is_good = validation.labels == index
    if limit or (is_good.any() and not is_good.all()):
        is_same = validation is samples.held_out
        found = scores if is_same else unseen
        if found is None:
            found = score_images(classifier, validation.images, progress)
        curve = measure_curve(found, validation.labels, index)
    choice = choose_threshold(curve, limit) if limit and curve else None
    return Inspection(good, index, limit, choice, curve, scores, samples.held_out.labels, samples.held_out_name)


def draw_rates(found: Inspection, path: Path) -> None:
    """Write missed defects against false alarms, over all thresholds, with the file's own marked.

    Raises:
        MissingDependency: Matplotlib is not installed.
    """
    with new_figure(path, 6.4, 4.4, 130) as figure:
        axes = figure.add_subplot()
        _draw_curves(axes, found)
        for threshold, marker in {None: "s", found.threshold: "o"}.items():
            rates = count_rates(found.held_out, found.labels, found.index, threshold)
            if rates.defects and rates.good:
                text = "highest score" if threshold is None else f"{found.good_class} from {threshold:.4f}"
                place = 100 * rates.false_alarms / rates.good, 100 * rates.missed / rates.defects
                axes.plot(*place, marker, color="#222222", fillstyle="none", markersize=9, label=text)
        if found.limit:
            draw = axes.axhline if found.limit.kind == "missed" else axes.axvline
            draw(100 * found.limit.rate, color="#888888", linewidth=1, label=found.limit.option)
        axes.set_xlabel(f"false alarms: {found.good_class} called a defect, %")
        axes.set_ylabel(f"missed: defects called {found.good_class}, %")
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            # Near zero a fraction matters most, and zero has no logarithm.
            scale("symlog", linthresh=1)
            axis.set_major_formatter("{x:g}")
        axes.set(xlim=(-0.1, 100), ylim=(-0.1, 100))
        axes.grid(color="#d9d9d9", linewidth=0.6)
        axes.legend(frameon=False, fontsize=9)


def _draw_curves(axes: Axes, found: Inspection) -> None:
    curves = [("validation images", found.validation, "#c2571a", "--")]
    if found.split == "test" and len(set((found.labels == found.index).tolist())) == 2:
        curves.append(("test images", measure_curve(found.held_out, found.labels, found.index), "#1f5fa8", "-"))
    for name, curve, color, line in curves:
        if curve is not None:
            missed = [100 * point[1] / curve.defects for point in curve.points]
            alarms = [100 * point[2] / curve.good for point in curve.points]
            label = f"{name}: {curve.defects} defects, {curve.good} good"
            axes.plot(alarms, missed, line, color=color, label=label, drawstyle="steps-post")
