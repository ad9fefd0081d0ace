"""The plot of what each layer did in each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.images.matplotlib_figure import new_figure
from edgecls.report.plots import DPI, GRID, INK, STYLE, WIDTH, find_phases, short_names
from edgecls.training.history import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Updates of about 1e-3 of the weights are normal; a layer that changes by a millionth does not learn.
RATIO_RANGE = (1e-6, 1e-1)


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
    with new_figure(path, WIDTH - 1.4, (height + 0.7) * max(1, len(maps)), DPI, style=STYLE, tight=True) as figure:
        panels = figure.subplots(max(1, len(maps)), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(hspace=0.6 / height, top=1, bottom=0, left=0, right=1)
        for axes, (kind, values) in zip(panels, maps.items(), strict=False):
            axes.set_title(titles[kind], loc="left")
            _show_map(figure, axes, kind, values)
            axes.set_yticks(range(len(names)), short_names(names), fontsize=9)
            for _, start, _ in find_phases(history)[1:]:
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
    image = axes.imshow(shown, norm=norms[kind], cmap=colors, aspect="auto", extent=box, interpolation="none")
    axes.locator_params(axis="x", integer=True)
    ends, digits = ("neither", "%.1f") if kind == "dead_share" else ("both", "%.0e")
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, extend=ends, format=digits)
