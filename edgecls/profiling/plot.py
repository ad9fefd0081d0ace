"""A profile as a picture: time from left to right as a flame graph, and the slowest operators. Needs no screen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgecls.images.matplotlib_figure import new_figure
from edgecls.messages.lists import short
from edgecls.messages.names import safe
from edgecls.messages.numbers import percent
from edgecls.profiling.profile import OperatorTime, OperatorTimes, profile_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches.
WIDTH, FLAME_HEIGHT, BAR_HEIGHT, DPI = 12.0, 2.9, 0.26, 110
# The picture has room for this many bars at least.
LEAST_BARS, MOST_BARS = 5, 20
# All other types of operators have one color.
COLORS = ("#c2571a", "#1f5fa8", "#3d8a4e", "#8a5aa8", "#b59a2b", "#4aa3a8")
OTHER, WHOLE, BLOCK, EDGE = "#9a9a9a", "#d9d9d9", "#ececec", "#ffffff"
# Fraction of the width that one letter of the smallest size takes.
LETTER = 0.0056
LONGEST_NAME, LONGEST_TYPE = 60, 20
CAPTION_CHARACTERS = 150


class _Span(NamedTuple):
    start: float
    width: float
    label: str
    color: str


def draw_profile(profile: OperatorTimes, path: Path) -> None:
    """Write a PNG: above, the network, its blocks and their operators as wide as they take time; below, the slowest.

    Raises:
        MissingDependency: Matplotlib is not installed.
    """
    bars = min(MOST_BARS, len(profile.operators))
    colors = _colors(profile.operators)
    lower_height = BAR_HEIGHT * max(bars, LEAST_BARS) + 0.9
    with new_figure(path, WIDTH, FLAME_HEIGHT + lower_height, DPI) as figure:
        # Each has its own margins, so that the long names below do not move the flame graph.
        upper, lower = figure.subfigures(2, 1, False, height_ratios=(FLAME_HEIGHT, lower_height))[:, 0]
        _draw_flame(upper.subplots(), profile, colors)
        _draw_slowest(lower.subplots(), profile.operators, bars, colors)
        text = "\n".join(textwrap.wrap(safe(profile_caption(profile)), CAPTION_CHARACTERS))
        figure.supxlabel(text, fontsize=8, color="#555555")


def blocks_of(operators: Sequence[OperatorTime]) -> list[str]:
    """Return the part of the network that each operator is in: "block_3" of MobileNetV2, else its first layer's name.

    Operators that the engine added belong to the part before them.
    """
    blocks: list[str] = []
    for operator in operators:
        if not operator.layers and blocks:
            blocks.append(blocks[-1])
            continue
        name = operator.layers[0] if operator.layers else operator.name
        found = re.match(r"block_\d+|expanded_conv", name)
        blocks.append(found.group() if found else name)
    return blocks


def _colors(operators: Sequence[OperatorTime]) -> dict[str, str]:
    """Return a color for every type; the types that take most time come first."""
    sums: dict[str, float] = {}
    for operator in operators:
        sums[operator.type] = sums.get(operator.type, 0) + operator.mean_ms
    ordered = sorted(sums, key=lambda name: -sums[name])
    return {name: COLORS[place] if place < len(COLORS) else OTHER for place, name in enumerate(ordered)}


def _draw_flame(axes: Axes, profile: OperatorTimes, colors: dict[str, str]) -> None:
    rows = (
        [_Span(0, profile.sum_ms, f"{profile.file}: {profile.sum_ms:.3f} ms", WHOLE)],
        list(_block_spans(profile.operators)),
        list(_operator_spans(profile.operators, colors)),
    )
    for level, spans in enumerate(rows):
        starts, widths = [span.start for span in spans], [span.width for span in spans]
        axes.barh([level] * len(spans), widths, 0.96, starts, color=[span.color for span in spans], edgecolor=EDGE)
        for span in spans:
            _write(axes, span, level, profile.sum_ms)
    axes.set(xlim=(0, profile.sum_ms), ylim=(-0.5, len(rows) - 0.5), yticks=[], xlabel="ms, in the order they run")
    axes.spines["left"].set_visible(False)
    shares = {name: sum(o.share for o in profile.operators if o.type == name) for name in colors}
    shown = list(colors)[: len(COLORS)]
    handles = [axes.barh([0], [0], color=colors[name]) for name in shown]
    labels = [f"{name[:LONGEST_TYPE]} {percent(shares[name], 0)}" for name in shown]
    axes.legend(handles, labels, ncols=len(shown), loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)


def _block_spans(operators: Sequence[OperatorTime]) -> Iterator[_Span]:
    start = 0.0
    for name, members in groupby(zip(blocks_of(operators), operators, strict=True), key=lambda pair: pair[0]):
        width = sum(member.mean_ms for _, member in members)
        yield _Span(start, width, name, BLOCK)
        start += width


def _operator_spans(operators: Sequence[OperatorTime], colors: dict[str, str]) -> Iterator[_Span]:
    start = 0.0
    for block, operator in zip(blocks_of(operators), operators, strict=True):
        # The padding is the smallest of the fused layers; and the row below has the block's name.
        names = [layer for layer in operator.layers if not layer.endswith("_pad")] or [operator.type]
        yield _Span(start, operator.mean_ms, names[0].removeprefix(f"{block}_"), colors[operator.type])
        start += operator.mean_ms


def _write(axes: Axes, span: _Span, level: int, whole: float) -> None:
    """Write a span's label along it, across it, or not at all, as there is room."""
    share = span.width / whole
    color = "#ffffff" if level == 2 else "#222222"
    middle = span.start + span.width / 2
    if share > LETTER * len(span.label):
        axes.text(middle, level, span.label, ha="center", va="center", fontsize=7, color=color)
    elif share > 2.2 * LETTER:
        axes.text(middle, level, span.label[:12], ha="center", va="center", fontsize=6, color=color, rotation=90)


def _draw_slowest(axes: Axes, operators: Sequence[OperatorTime], bars: int, colors: dict[str, str]) -> None:
    shown = sorted(operators, key=lambda operator: -operator.mean_ms)[:bars]
    places = range(bars)[::-1]
    axes.barh(places, [operator.mean_ms for operator in shown], 0.8, color=[colors[each.type] for each in shown])
    for place, operator in zip(places, shown, strict=True):
        text = f" {operator.mean_ms:.4f} ms, {percent(operator.share)}"
        axes.text(operator.mean_ms, place, text, va="center", fontsize=8)
    axes.set_yticks(places, [short(operator.name, LONGEST_NAME) for operator in shown], fontsize=8)
    axes.set(xlabel="ms", ylim=(-0.6, bars - 0.4), title=f"the {bars} slowest of {len(operators)} operators")
    axes.margins(x=0.14)
