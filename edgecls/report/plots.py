"""Plots of a run. Each function writes one PNG, and raises MissingDependency if Matplotlib is not installed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import Evaluation, wilson_interval
from edgecls.images.figure import new_figure
from edgecls.training.history import EpochRecord
from edgecls.training.phase_names import phase_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. As wide as a page can show without shrinking the letters below what a phone's screen resolves.
WIDTH, DPI = 6.4, 130
TRAIN, VAL, GRID, INK, PAPER = "#c2571a", "#1f5fa8", "#d9d9d9", "#222222", "#ffffff"
_STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.edgecolor": "#888888",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
LONGEST_NAME = 22
# With more epochs, the curves have no dots.
DOTTED_EPOCHS = 40
# Writing a number takes a millisecond; a matrix with more cells is shown by color alone.
MOST_NUMBERS = 800
# Updates of about 1e-3 of the weights are normal; a layer that changes by a millionth does not learn.
RATIO_RANGE = (1e-6, 1e-1)


def short_names(names: Sequence[str]) -> list[str]:
    """Return names that fit beside a plot and differ: long ones without their middle, numbered from 1 if necessary."""
    kept = LONGEST_NAME // 2
    short = [name if len(name) <= LONGEST_NAME else f"{name[:kept]}…{name[-kept:]}" for name in names]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{number}. {name}" for number, name in enumerate(short, 1)]


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Write the learning curves of all phases, one after the other: loss above, accuracy below.

    The epoch of each phase with the lowest validation loss is marked. Numbers that are not finite are gaps.
    """
    epochs = np.arange(1, len(history) + 1)
    with new_figure(path, WIDTH, 5.6, DPI, style=_STYLE, tight=True) as figure:
        loss, accuracy = figure.subplots(2, 1, sharex=True)
        figure.subplots_adjust(hspace=0.12)
        for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
            for part, color in (("train", TRAIN), ("val", VAL)):
                values = _finite([getattr(record, f"{part}_{name}") for record in history])
                label = "training" if part == "train" else "validation"
                marker = "." if len(history) <= DOTTED_EPOCHS else ""
                axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker)
            axes.set_ylabel(name)
            axes.grid(color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
        _scale_loss(loss, history)
        _mark_best(loss, accuracy, history)
        _mark_phases(loss, accuracy, history)
        accuracy.set_xlabel("epoch")
        accuracy.locator_params(axis="x", integer=True)
        accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, fontsize=10)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _scale_loss(axes: Axes, history: Sequence[EpochRecord]) -> None:
    losses = _finite([loss for record in history for loss in (record.train_loss, record.val_loss)])
    positive = losses[losses > 0]
    # A single exploding step would hide all others on a linear axis.
    if len(positive) and positive.max() > 100 * np.median(positive):
        axes.set_yscale("log")


def _phases(history: Sequence[EpochRecord]) -> list[tuple[str, int, int]]:
    """Return name, first and one past the last position of each phase."""
    names = [phase_name(record.phase) for record in history]
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return [(names[start], start, end) for start, end in zip(starts, [*starts[1:], len(names)], strict=True)]


def _mark_best(loss: Axes, accuracy: Axes, history: Sequence[EpochRecord]) -> None:
    label = "lowest validation loss"
    for _, start, end in _phases(history):
        losses = _finite([record.val_loss for record in history[start:end]])
        if np.isnan(losses).all():
            continue
        best = start + int(np.nanargmin(losses))
        for axes, value in ((loss, history[best].val_loss), (accuracy, history[best].val_accuracy)):
            axes.scatter([best + 1], [value], s=80, facecolors="none", edgecolors=VAL, linewidths=1.8, label=label)
        label = ""


def _mark_phases(loss: Axes, accuracy: Axes, history: Sequence[EpochRecord]) -> None:
    phases = _phases(history)
    for name, start, end in phases if len(phases) > 1 else []:
        for axes in (loss, accuracy) if start else ():
            axes.axvline(start + 0.5, color="#666666", linestyle="--", linewidth=1)
        middle = (start + end + 1) / 2
        loss.annotate(name, (middle, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=10)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Write the confusion matrix: rows are true classes, the color is the fraction of the row, numbers are images."""
    classes, counts = list(evaluation.per_class), evaluation.confusion
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell = min(0.75, max(0.2, 5 / len(classes)))
    side = max(2.6, cell * len(classes))
    with new_figure(path, side, side, DPI, style=_STYLE, tight=True) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.spines[:].set_visible(False)
        # With the square root, a confusion of 2 % is still visible.
        axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        letters = min(11.0, cell * 72 * 0.55)
        names, ticks = short_names(classes), range(len(classes))
        upright = max(len(name) for name in names) * letters * 0.6 > cell * 72
        axes.set_xticks(ticks, names, fontsize=letters, rotation=90 if upright else 0)
        axes.set_yticks(ticks, names, fontsize=letters)
        borders = np.arange(-0.5, len(classes))
        axes.hlines(borders, -0.5, len(classes) - 0.5, color=GRID, linewidth=0.5)
        axes.vlines(borders, -0.5, len(classes) - 0.5, color=GRID, linewidth=0.5)
        axes.tick_params(length=0)
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
        axes.text(column, row, number, ha="center", va="center", fontsize=size, color=PAPER if dark else INK)
    return least


def draw_recall(evaluation: Evaluation, path: Path) -> None:
    """Write the recall of each class with its 95 % interval (Wilson) and number of images, the lowest on top."""
    classes = zip(short_names(list(evaluation.per_class)), evaluation.per_class.values(), strict=True)
    found = sorted(classes, key=lambda item: (item[1].recall is None, item[1].recall or 0))
    with new_figure(path, WIDTH - 1.6, 0.9 + 0.27 * len(found), DPI, style=_STYLE, tight=True) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        for row, (_, metrics) in enumerate(found):
            text = "no image" if metrics.recall is None else f"{metrics.recall:.1%} of {metrics.support}"
            axes.annotate(text, (1.015, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
            if metrics.recall is not None:
                low, high = wilson_interval(round(metrics.recall * metrics.support), metrics.support)
                axes.barh(row, metrics.recall, height=0.62, color="#9dbfe3")
                axes.plot([low, high], [row, row], color=VAL, linewidth=2, marker="|", markersize=7)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("recall (line: 95% interval)")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def draw_layers(history: Sequence[EpochRecord], path: Path) -> None:
    """Write heat maps of what each layer did in each epoch, the layer next to the image on top.

    Rows that darken towards the top show a vanishing gradient. Layers that did not learn in an epoch are gray; the
    fraction of dead ReLUs is shown if it was measured.
    """
    names = _layer_names(history)
    maps = {kind: _layer_map(history, names, kind) for kind in ("update_ratio", "gradient_norm", "dead_share")}
    maps = {kind: values for kind, values in maps.items() if not np.isnan(values).all()}
    titles = {
        "update_ratio": "relative change of the weights in a step",
        "gradient_norm": "norm of the gradient",
        "dead_share": "fraction of ReLUs that are zero for every image",
    }
    height = max(1.0, 0.24 * len(names))
    with new_figure(path, WIDTH - 1.4, (height + 0.7) * max(1, len(maps)), DPI, style=_STYLE, tight=True) as figure:
        panels = figure.subplots(max(1, len(maps)), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(hspace=0.6 / height, top=1, bottom=0, left=0, right=1)
        for axes, (kind, values) in zip(panels, maps.items(), strict=False):
            axes.set_title(titles[kind], loc="left")
            _show_map(figure, axes, kind, values)
            axes.set_yticks(range(len(names)), short_names(names), fontsize=9)
            for _, start, _ in _phases(history)[1:]:
                axes.axvline(start + 0.5, color=INK, linestyle="--", linewidth=1)
        panels[-1].set_xlabel("epoch")


def _layer_names(history: Sequence[EpochRecord]) -> list[str]:
    """Return the layers of all phases, from the image to the scores."""
    names: list[str] = []
    for record in sorted(history, key=lambda record: -len(record.layers)):
        place = 0
        for layer in record.layers:
            if layer.name not in names:
                names.insert(place, layer.name)
            place = names.index(layer.name) + 1
    return names


def _layer_map(history: Sequence[EpochRecord], names: Sequence[str], kind: str) -> NDArray[np.float64]:
    """Return a number of each layer (rows) in each epoch (columns); NaN where there is none."""
    values = np.full((len(names), len(history)), np.nan)
    for column, record in enumerate(history):
        for layer in record.layers:
            value = getattr(layer, kind)
            values[names.index(layer.name), column] = np.nan if value is None else value
    return values


def _show_map(figure: Figure, axes: Axes, kind: str, values: NDArray[np.float64]) -> None:
    from matplotlib.colors import LogNorm, Normalize

    finite = values[np.isfinite(values)]
    top = 10.0 ** math.ceil(math.log10(finite.max())) if len(finite) and finite.max() > 0 else 1.0
    norms: dict[str, Any] = {
        "update_ratio": LogNorm(*RATIO_RANGE, clip=True),
        "gradient_norm": LogNorm(top * 1e-6, top, clip=True),
        "dead_share": Normalize(0, 1),
    }
    axes.set_facecolor(GRID)
    box = (0.5, values.shape[1] + 0.5, values.shape[0] - 0.5, -0.5)
    # Zero has no logarithm; it is shown as the smallest number, not in gray like a frozen layer.
    shown = np.ma.masked_invalid(np.where(values == 0, 1e-30, values))
    colors = "Reds" if kind == "dead_share" else "viridis"
    image = axes.imshow(shown, norm=norms[kind], cmap=colors, aspect="auto", extent=box, interpolation="nearest")
    axes.locator_params(axis="x", integer=True)
    ends, digits = ("neither", "%.1f") if kind == "dead_share" else ("both", "%.0e")
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, extend=ends, format=digits)
