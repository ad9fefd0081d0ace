"""Plots as part of a page: SVG whose colors follow the page's, light or dark."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgecls.report import plots

# Where the page's style sheet has a color of the same meaning.
VARIABLES = {
    plots.INK: "--ink",
    plots.SOFT: "--soft",
    plots.GRID: "--line",
    plots.TRAIN: "--train",
    plots.VAL: "--val",
    plots.BAR: "--bar",
    "#ffffff": "--paper",
}


def draw_svg(name: str, what: str, draw: Callable[[Path], object]) -> tuple[str, float]:
    """Return the <svg> element that `draw` writes to the path it gets, and its width in CSS pixels.

    Args:
        name: distinguishes its ids from those of other plots in the page.
        what: description for who cannot see it; HTML.
        draw: a function of `plots`, with all but its path.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plot.svg")
        draw(path)
        text = path.read_text(encoding="utf-8")
    # What stands around the element, and a style that would be the whole page's.
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="|url\(#|href="#', lambda found: f"{found[0]}{name}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    # The page's own font, in the sizes of the plot.
    text = re.sub(r"font-family: [^;\"]*;? ?", "", re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text))
    # Points; CSS has 3 in 4 pixels.
    width, height = (float(number) * 4 / 3 for number in re.findall(r'"([\d.]+)pt"', text)[:2])
    size = f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{what}"'
    text = re.sub(r'(width|height)="[\d.]+pt" ?', "", text, count=2)
    return text.replace("<svg ", f"<svg {size} ", 1), width
