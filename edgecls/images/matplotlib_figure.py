"""Matplotlib figures without a screen, and Matplotlib's font."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls.errors import MissingDependency
from edgecls.files import write_rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {
    # A name such as "$5" is no formula.
    "text.parse_math": False,
    # In SVG, text stays text: in the page's font, to be read aloud, found and copied.
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextlib.contextmanager
def new_figure(
    path: Path, width: float, height: float, dpi: int, *, style: dict[str, Any] | None = None, tight: bool = False
) -> Iterator[Figure]:
    """Yield an empty figure, in inches, that is written to `path` at the end, whole or not at all.

    The suffix of `path` is the format: PNG on white paper, or SVG without paper. `style` adds to Matplotlib's settings;
    `tight` cuts the paper to the drawing instead of fitting the drawing to it.

    Raises:
        MissingDependency: Matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | (style or {})), warnings.catch_warnings():
        # Letters that Matplotlib's font lacks show as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # A figure made without pyplot needs no screen and is freed when nobody holds it.
        figure = Figure(figsize=(width, height), dpi=dpi, layout=None if tight else "constrained", facecolor="white")
        yield figure
        margins: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.12} if tight else {}
        if (kind := path.suffix.removeprefix(".")) == "svg":
            margins |= {"transparent": True}
        write_rendered(path, functools.partial(figure.savefig, format=kind, **margins))


def font_path() -> str:
    """Return the path of Matplotlib's font; Pillow's own has no letter beyond ASCII.

    Raises:
        MissingDependency: Matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib

    # As text: Pillow 10.1 takes no path.
    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def require_matplotlib() -> None:
    """Raise MissingDependency if Matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingDependency("pictures need Matplotlib: pip install matplotlib, or pip install 'edgecls[train]'")
