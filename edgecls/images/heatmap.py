"""Draws a heat map over its image: yellow where the image speaks a little for the label, red where it does most."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgecls.images.matplotlib_figure import font_path
from edgecls.messages.names import safe

LEGEND = 40
LEAST_WIDTH = 260
_MOST_OPAQUE = 0.7
_INK, _PAPER, _BASE = (20, 20, 20), (255, 255, 255), (128, 128, 128)


def draw_heatmap(picture: Image.Image, heatmap: NDArray[np.float32], label: str, score: float) -> Image.Image:
    """Return the picture (mode L) in its own size with its heat map over it and a legend below, in RGB.

    Values up to 0, which speak for other labels, are not drawn.

    Args:
        picture: as `decode_part` returns it.
        heatmap: float32 (h, w) for the whole picture, as `Prediction.heatmap`.
        label: that the heat map is for.
        score: of the label, 0..1.
    """
    width, height = picture.size
    canvas = Image.new("RGB", (max(width, LEAST_WIDTH), height + LEGEND), _PAPER)
    canvas.paste(color_in(picture, heatmap), (0, 0))
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (10, 1))).resize((120, 10))
    gray = Image.new("RGB", ramp.size, _BASE)
    canvas.paste(_blend(gray, ramp), (6, height + 24))
    draw = ImageDraw.Draw(canvas)
    draw.text((6, height + 5), f"{_shown(label)} {score:.0%}", _INK, _font())
    draw.text((132, height + 22), "little to most" if (heatmap > 0).any() else "nothing", _INK, _font())
    return canvas


def color_in(picture: Image.Image, heatmap: NDArray[np.float32]) -> Image.Image:
    """Return the picture (mode L) with its heat map, float32 (h, w), over it, in RGB and in its own size."""
    positive = np.maximum(heatmap, 0)
    levels = (positive * (255 / max(float(positive.max()), 1e-12))).astype(np.uint8)
    return _blend(picture.convert("RGB"), Image.fromarray(levels).resize(picture.size, Image.Resampling.BILINEAR))


def _blend(picture: Image.Image, levels: Image.Image) -> Image.Image:
    """Return the picture (RGB) under the color of each level (mode L): 0 is transparent, 255 is red."""
    full = Image.new("L", levels.size, 255)
    color = Image.merge("RGB", (full, levels.point([255 - level for level in range(256)]), Image.new("L", levels.size)))
    return Image.composite(color, picture, levels.point([round(level * _MOST_OPAQUE) for level in range(256)]))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if find_spec("matplotlib"):
        return ImageFont.truetype(font_path(), 12)
    return ImageFont.load_default(12)


def _shown(label: str) -> str:
    # Pillow's own font has no letter beyond ASCII.
    return safe(label) if find_spec("matplotlib") else safe(label).encode("ascii", "replace").decode()
