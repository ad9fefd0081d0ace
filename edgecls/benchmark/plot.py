"""A benchmark as a picture: the distribution of latency, and accuracy against latency. Needs no screen."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecls.benchmark.record import Record
from edgecls.benchmark.table import caption
from edgecls.images.matplotlib_figure import new_figure
from edgecls.messages.names import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches.
WIDTH, HEIGHT, DPI = 6.4, 4.2, 130
# Slower calls would make the rest too small to see.
SHOWN_PERCENT = 99
CAPTION_CHARACTERS = 120


def draw_benchmark(record: Record, path: Path) -> None:
    """Write a PNG: left the distribution of latency, right accuracy against p50 if the files have one.

    Raises:
        MissingDependency: Matplotlib is not installed.
    """
    scored = any(result.model["accuracy"] is not None for result in record.results)
    with new_figure(path, WIDTH * (1 + scored), HEIGHT, DPI) as figure:
        axes = figure.subplots(1, 1 + scored, squeeze=False)[0]
        _draw_distribution(axes[0], record)
        if scored:
            _draw_accuracy(axes[1], record)
        text = "\n".join(textwrap.wrap(safe(caption(record)), CAPTION_CHARACTERS))
        figure.supxlabel(text, fontsize=8, color="#555555")


def _draw_distribution(axes: Axes, record: Record) -> None:
    for place, result in enumerate(record.results):
        times = np.sort(result.samples_ms)
        fraction = np.arange(1, len(times) + 1) / len(times)
        style = "-" if result.valid else ":"
        # Matplotlib leaves labels that begin with "_" out of a legend.
        label = f" {safe(record.name_of(result))}{'' if result.valid else ' (not valid)'}"
        axes.plot(times, fraction, color=f"C{place}", linestyle=style, label=label)
    last = max(np.percentile(result.samples_ms, SHOWN_PERCENT) for result in record.results)
    axes.set(xlim=(0, last * 1.1), ylim=(0, 1.01), xlabel="x, ms", ylabel="fraction of calls finished within x ms")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False)


def _draw_accuracy(axes: Axes, record: Record) -> None:
    for place, result in enumerate(record.results):
        if result.model["accuracy"] is None:
            continue
        accuracy, face = result.model["accuracy"] * 100, f"C{place}" if result.valid else "none"
        axes.hlines(accuracy, result.p50_low_ms, result.p50_high_ms, color=f"C{place}")
        axes.scatter([result.p50_ms], [accuracy], 50, facecolors=face, edgecolors=f"C{place}", zorder=3)
    axes.set(xlabel="p50, ms (line: 95 % interval; hollow: not valid)", ylabel="accuracy in the file's metadata, %")
    axes.set_xlim(left=0)
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
