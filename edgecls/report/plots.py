"""Plots of a run. Each function writes one PNG or SVG, by the suffix of its path.

All raise MissingDependency if Matplotlib is not installed. `svg.py` gives the colors below other values on a dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import Evaluation, wilson_interval
from edgecls.images.matplotlib_figure import new_figure
from edgecls.messages.numbers import percent
from edgecls.training.history import EpochRecord
from edgecls.training.phase_names import phase_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches. As wide as a page can show without shrinking the letters below what a phone's screen resolves.
WIDTH, DPI = 6.4, 130
TRAIN, VAL, GRID, INK, SOFT, BAR = "#c2571a", "#1f5fa8", "#d9d9d9", "#222222", "#6b6b6b", "#5f93c9"
# Of cells and of the numbers in them, on any paper.
CELL_COLOR, CELL_INK = "#1f5fa9", "#fffffe"
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.edgecolor": SOFT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
LONGEST_NAME = 22
# Fraction of the epochs below which a phase's name may reach into the next phase.
NARROW = 0.3
# With more epochs, the curves have no dots.
DOTTED_EPOCHS = 40
# Writing a number takes a millisecond; a matrix with more cells is shown by color alone.
MOST_NUMBERS = 800


def short_names(names: Sequence[str]) -> list[str]:
    """Return names that fit beside a plot and differ: long ones without their middle, numbered from 1 if necessary."""
    kept = LONGEST_NAME // 2
    short = [name if len(name) <= LONGEST_NAME else f"{name[:kept]}…{name[-kept:]}" for name in names]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{number}. {name}" for number, name in enumerate(short, 1)]


def draw_curves(
    history: Sequence[EpochRecord],
    path: Path,
    phases: Sequence[dict[str, Any]] = (),
    names: Sequence[str] = ("loss", "accuracy"),
) -> None:
    """Write the learning curves of all phases, one after the other, each of `names` below the one before.

    The epoch of each phase with the lowest validation loss is marked; with the `phases` of run.json also which of them
    were discarded, and the epoch that the run kept. Numbers that are not finite are gaps.
    """
    epochs = np.arange(1, len(history) + 1)
    with new_figure(path, WIDTH, 0.6 + 2.5 * len(names), DPI, style=STYLE, tight=True) as figure:
        panels = dict(zip(names, figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], strict=True))
        figure.subplots_adjust(hspace=0.12)
        for name, axes in panels.items():
            for part, color in (("train", TRAIN), ("val", VAL)):
                values = _finite([getattr(record, f"{part}_{name}") for record in history])
                label = "training" if part == "train" else "validation"
                marker = "." if len(history) <= DOTTED_EPOCHS else ""
                axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker)
            axes.set_ylabel(name)
            axes.grid(color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            _mark_best(axes, name, history, phases)
        if "loss" in panels:
            _scale_loss(panels["loss"], history)
        _mark_phases(list(panels.values()), history, phases)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=10)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _scale_loss(axes: Axes, history: Sequence[EpochRecord]) -> None:
    losses = _finite([loss for record in history for loss in (record.train_loss, record.val_loss)])
    positive = losses[losses > 0]
    # A single exploding step would hide all others on a linear axis.
    if len(positive) and positive.max() > 100 * np.median(positive):
        axes.set_yscale("log")


def find_phases(history: Sequence[EpochRecord]) -> list[tuple[str, int, int]]:
    """Return name, first and one past the last position of each phase."""
    names = [phase_name(record.phase) for record in history]
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return [(names[start], start, end) for start, end in zip(starts, [*starts[1:], len(names)], strict=True)]


def _mark_best(axes: Axes, name: str, history: Sequence[EpochRecord], phases: Sequence[dict[str, Any]]) -> None:
    label, kept = "lowest validation loss", [phase_name(phase["name"]) for phase in phases if phase["kept"]]
    for phase, start, end in find_phases(history):
        losses = _finite([record.val_loss for record in history[start:end]])
        if np.isnan(losses).all():
            continue
        best = start + int(np.nanargmin(losses))
        value = getattr(history[best], f"val_{name}")
        axes.scatter([best + 1], [value], s=80, facecolors="none", edgecolors=VAL, linewidths=1.8, label=label)
        label = ""
        if kept and phase == kept[-1]:
            axes.scatter([best + 1], [value], s=24, color=VAL, zorder=3, label="the epoch that was kept")


def _mark_phases(panels: Sequence[Axes], history: Sequence[EpochRecord], phases: Sequence[dict[str, Any]]) -> None:
    discarded = {phase_name(phase["name"]) for phase in phases if not phase["kept"]}
    found = find_phases(history)
    for row, (name, start, end) in enumerate(found if len(found) > 1 or discarded else []):
        for axes in panels:
            if start:
                axes.axvline(start + 0.5, color=SOFT, linestyle="--", linewidth=1)
            if name in discarded:
                axes.axvspan(start + 0.5, end + 0.5, color=GRID, alpha=0.5, linewidth=0)
        text = f"{name} (discarded)" if name in discarded else name
        # In two rows where a phase is too short for its name.
        crowded = any(end - start < NARROW * len(history) for _, start, end in found)
        place = (start + end + 1) / 2, 1.02 + 0.09 * (row % 2 if crowded else 0)
        panels[0].annotate(text, place, xycoords=("data", "axes fraction"), ha="center", fontsize=10)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Write the confusion matrix: rows are true classes, the color is the fraction of the row, numbers are images."""
    classes, counts = list(evaluation.per_class), evaluation.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = min(0.75, max(0.2, 5 / len(classes)))
    side = max(2.6, cell * len(classes))
    with new_figure(path, side, side, DPI, style=STYLE, tight=True) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.spines[:].set_visible(False)
        # With the square root, a confusion of 2 % is still visible. The paper shows through, white or dark.
        colors = np.broadcast_to([*_rgb(CELL_COLOR), 1.0], (*share.shape, 4)).copy()
        colors[:, :, 3] = np.sqrt(share)
        axes.imshow(colors, aspect="auto", interpolation="none")
        letters = min(11.0, cell * 72 * 0.55)
        names, ticks = short_names(classes), range(len(classes))
        upright = max(len(name) for name in names) * letters * 0.6 > cell * 72
        axes.set_xticks(ticks, names, fontsize=letters, rotation=90 if upright else 0)
        axes.set_yticks(ticks, names, fontsize=letters)
        for label in axes.get_xticklabels() if not upright else ():
            # In SVG each line would stand as high as its own letters.
            label.set_verticalalignment("baseline")
        borders = np.arange(-0.5, len(classes))
        axes.hlines(borders, -0.5, len(classes) - 0.5, color=GRID, linewidth=0.5)
        axes.vlines(borders, -0.5, len(classes) - 0.5, color=GRID, linewidth=0.5)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=4 if upright else 1.2 * letters)
        axes.set_ylabel("true class")
        least = _write_counts(axes, counts, share, cell)
        axes.set_xlabel("predicted class" + (f" (numbers below {least} are not shown)" if least > 1 else ""))


def _write_counts(axes: Axes, counts: NDArray[np.int64], share: NDArray[np.float64], cell: float) -> int:
    """Write the numbers into cells of `cell` inches; return the smallest that is written."""
    least = 1
    while (counts >= least).sum() > MOST_NUMBERS:
        least += 1
    for row, column in np.argwhere(counts >= least).tolist():
        number, dark = str(counts[row, column]), share[row, column] > 0.36
        # A digit is 0.62 as wide as the font is high.
        size = min(11.0, cell * 72 * 0.55, cell * 72 * 0.9 / (0.62 * len(number)))
        axes.text(column, row, number, ha="center", va="center", fontsize=size, color=CELL_INK if dark else INK)
    return least


def _rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def draw_recall(evaluation: Evaluation, path: Path) -> None:
    """Write the recall of each class with its 95 % interval (Wilson) and number of images, the lowest on top."""
    classes = zip(short_names(list(evaluation.per_class)), evaluation.per_class.values(), strict=True)
    found = sorted(classes, key=lambda item: (item[1].recall is None, item[1].recall or 0))
    with new_figure(path, WIDTH - 1.6, 0.9 + 0.27 * len(found), DPI, style=STYLE, tight=True) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        for row, (_, metrics) in enumerate(found):
            text = "no image" if metrics.recall is None else f"{percent(metrics.recall)} of {metrics.support}"
            axes.annotate(text, (1.015, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
            if metrics.recall is not None:
                low, high = wilson_interval(round(metrics.recall * metrics.support), metrics.support)
                axes.barh(row, metrics.recall, height=0.62, color=BAR)
                axes.plot([low, high], [row, row], color=INK, linewidth=1.6, marker="|", markersize=7)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("recall (line: 95 % interval)")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def draw_scores(
    counts: Mapping[str, Sequence[int]], path: Path, label: str, threshold: float | None = None, words: str = ""
) -> None:
    """Write histograms of scores from 0 to 1, one above the other, with a threshold.

    Args:
        counts: name of a group of images -> its images in each of the equal bins; at most two groups.
        path: of the picture.
        label: what the scores are of.
        threshold: marked by a line; None marks none.
        words: what the threshold decides.
    """
    with new_figure(path, WIDTH - 0.8, 0.8 + 1.3 * len(counts), DPI, style=STYLE, tight=True) as figure:
        panels = figure.subplots(len(counts), 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(hspace=0.35)
        for axes, color, (name, numbers) in zip(panels, (VAL, TRAIN), counts.items(), strict=False):
            width = 1 / len(numbers)
            axes.bar((np.arange(len(numbers)) + 0.5) * width, numbers, width * 0.9, color=color)
            axes.set_title(f"{name}: {sum(numbers):,} images", loc="left", fontsize=11)
            # A few images at the other end are what matters, and would not be seen beside hundreds.
            axes.set_yscale("symlog", linthresh=10)
            top = max(*numbers, 1)
            axes.set_ylim(0, top * 1.3)
            ticks = (0, 5, *(10**power for power in range(1, 9))) if top >= 5 else (0, 1, 3)
            axes.set_yticks([tick for tick in ticks if tick <= top])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(axis="y", color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            if threshold is not None:
                axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.4, label=words)
        panels[-1].set_xlabel(label)
        panels[-1].set_xlim(0, 1)
        if threshold is not None:
            panels[-1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), frameon=False, fontsize=10)
