"""A sweep as a picture: accuracy against latency, the budget, the frontier. Drawn without a screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.images.matplotlib_figure import new_figure
from edgecls.sweep.grid import short_names
from edgecls.sweep.sweep import Row, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# Inches, and points.
SIZE, DPI = (8.0, 5.4), 130
FONT, LARGEST_MARKER = 8, 260.0
# With more networks, markers are smaller, and only those of the frontier have labels.
MOST_LABELED = 12
# Files whose sizes differ by a smaller fraction are as large as each other.
SAME_SIZE = 0.02
# Labels are tried in rings around their point, the nearest first.
RINGS, DIRECTIONS = (20, 28, 40, 56, 74, 94), 16
# Points along each line that labels must not cover.
STEPS = 200
COLORS = {"recommended": "#c8102e", "frontier": "#1f5fa8", "slower": "#9a9a9a", "out": "#9a9a9a"}


def draw_frontier(found: Sweep, path: Path) -> None:
    """Write a PNG; networks that were not trained, or have no latency, are not in it."""
    rows = [row for row in found.rows if row.scored and row.scored.comparison and row.latency]
    with new_figure(path, *SIZE, DPI) as figure:
        axes = figure.subplots()
        if found.request.budget_ms is not None:
            axes.axvline(found.request.budget_ms, color="#444444", linestyle="--", linewidth=1, label="budget")
        latencies = [point.latency.p50_ms for point in found.frontier]
        accuracies = [point.accuracy * 100 for point in found.frontier]
        style: dict[str, Any] = {"linewidth": 1, "marker": "o", "markersize": 4}
        axes.plot(latencies, accuracies, color=COLORS["frontier"], label="frontier", **style)
        largest = max((each.scored.size_bytes for each in rows if each.scored), default=1)
        for row in rows:
            area = LARGEST_MARKER * min(1.0, MOST_LABELED / len(rows)) ** 2
            _draw_row(axes, row, found.standing(row), area / largest)
        _finish(figure, axes, rows, found)
        # The layout decides where on the picture a point lies.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _draw_labels(axes, rows, found)


def _draw_row(axes: Axes, row: Row, standing: str, area_a_byte: float) -> None:
    assert row.scored is not None and row.scored.comparison is not None and row.latency is not None
    comparison, latency, color = row.scored.comparison, row.latency, COLORS[standing]
    x, y = latency.p50_ms, comparison.accuracy * 100
    axes.hlines(y, latency.low_ms, latency.high_ms, color=color, alpha=0.45)
    axes.vlines(x, comparison.accuracy_low * 100, comparison.accuracy_high * 100, color=color, alpha=0.45)
    face = "none" if row.left_out_because else color
    # What is recommended and the frontier are never below the others.
    order = {"recommended": 5, "frontier": 4}.get(standing, 3)
    area = area_a_byte * row.scored.size_bytes
    axes.scatter([x], [y], area, facecolors=face, edgecolors=color, zorder=order)


def _finish(figure: Figure, axes: Axes, rows: Sequence[Row], found: Sweep) -> None:
    budget = "" if found.request.budget_ms is None else f", budget {found.request.budget_ms:g} ms"
    where = found.deployment.profile.title if found.deployment.profile else "this machine"
    source = "measured" if found.deployment.is_timed else "estimated"
    axes.set(
        xlabel=f"p50 of one image, ms, {source} (line: its interval)",
        ylabel="accuracy of the exported file, % (line: 95 % interval)",
        title=f"{where}: {found.deployment.precision} .{found.deployment.format}{budget}",
    )
    axes.margins(x=0.1, y=0.1)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    standings = {found.standing(row) for row in rows}
    words = {
        "recommended": ("recommended", COLORS["recommended"]),
        "slower": ("slower or less accurate", COLORS["slower"]),
        "out": ("cannot be shipped", "none"),
    }
    shown = [
        axes.scatter([], [], 40, facecolors=color, edgecolors=COLORS[name], label=label)
        for name, (label, color) in words.items()
        if name in standings
    ]
    lines = axes.get_lines()[: None if found.frontier else -1]
    title = "" if _same_bytes(rows) else "The area of a circle is the size of the file."
    options: dict[str, Any] = {
        "fontsize": FONT,
        "title_fontsize": FONT,
        "frameon": False,
        "loc": "outside lower center",
    }
    figure.legend(handles=[*lines, *shown], title=title or None, ncols=5, **options)


def _same_bytes(rows: Sequence[Row]) -> bool:
    sizes = [row.scored.size_bytes for row in rows if row.scored]
    return not sizes or max(sizes) <= min(sizes) * (1 + SAME_SIZE)


def _draw_labels(axes: Axes, rows: Sequence[Row], found: Sweep) -> None:
    """Write beside each point, or beside those of the frontier if there are many, what it is, where it covers least."""
    from matplotlib.text import Text

    names = short_names(tuple(row.candidate for row in rows))
    drawn = _drawn(axes, rows, found)
    taken: list[Bbox] = []
    for row in rows:
        assert row.scored is not None and row.scored.comparison is not None and row.latency is not None
        if len(rows) > MOST_LABELED and found.standing(row) not in ("recommended", "frontier"):
            continue
        size_text = "" if _same_bytes(rows) else f"\n{row.scored.size_bytes / 1e6:.2f} MB"
        text = f"{names[row.candidate.name]}{size_text}"
        label = axes.annotate(
            text,
            (row.latency.p50_ms, row.scored.comparison.accuracy * 100),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=FONT,
            ha="center",
            va="center",
            color=COLORS[found.standing(row)] if found.standing(row) in ("recommended", "frontier") else "#666666",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6, "shrinkB": 4},
        )
        at = axes.transData.transform(label.xy)
        # An annotation's own extent counts its line to the point too.
        size = np.array(Text.get_window_extent(label).size)
        boxes = {offset: _box(at + np.array(offset) * DPI / 72, size) for offset in _offsets()}
        best = min(boxes, key=lambda offset: _clutter(boxes[offset], axes.bbox, taken, drawn))
        label.set_position(best)
        taken.append(boxes[best])


def _box(middle: NDArray[np.float64], size: NDArray[np.float64]) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox([middle - size / 2 - 1, middle + size / 2 + 1])


def _clutter(box: Bbox, area: Bbox, taken: Sequence[Bbox], drawn: NDArray[np.float64]) -> tuple[float, ...]:
    """Return how bad a position for a label is: outside the picture, over other labels, over lines."""
    outside = max(area.x0 - box.x0, box.x1 - area.x1, area.y0 - box.y0, box.y1 - area.y1, 0)
    covered = ((drawn > (box.x0, box.y0)) & (drawn < (box.x1, box.y1))).all(axis=1).sum()
    return float(outside), float(sum(box.overlaps(other) for other in taken)), float(covered)


def _offsets() -> list[tuple[float, float]]:
    angles = [2 * math.pi * step / DIRECTIONS + math.pi / 6 for step in range(DIRECTIONS)]
    # Words are wider than high.
    return [(1.6 * ring * math.cos(angle), ring * math.sin(angle)) for ring in RINGS for angle in angles]


def _drawn(axes: Axes, rows: Sequence[Row], found: Sweep) -> NDArray[np.float64]:
    """Return pixels, float64 (N, 2), along the lines that labels must not cover."""
    lines = [(each.latency.p50_ms, each.accuracy * 100) for each in found.frontier]
    budget = found.request.budget_ms
    ends = [*pairwise(lines)]
    if budget is not None:
        ends.append(((budget, axes.get_ylim()[0]), (budget, axes.get_ylim()[1])))
    for row in rows:
        assert row.scored is not None and row.scored.comparison is not None and row.latency is not None
        latency, comparison = row.latency, row.scored.comparison
        x, y = latency.p50_ms, comparison.accuracy * 100
        ends.append(((latency.low_ms, y), (latency.high_ms, y)))
        ends.append(((x, comparison.accuracy_low * 100), (x, comparison.accuracy_high * 100)))
    steps = np.linspace(0, 1, STEPS)[:, None]
    parts = [axes.transData.transform(np.array(a) * (1 - steps) + np.array(b) * steps) for a, b in ends]
    return np.concatenate(parts)
