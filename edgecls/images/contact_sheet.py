"""Pictures of many images, drawn with Pillow in Matplotlib's font."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgecls.errors import DataError
from edgecls.images.figure import require_matplotlib

CELL = 112
CAPTION = 34
HEADING = 20
GREEN, RED, INK, PAPER = (22, 120, 60), (190, 30, 30), (20, 20, 20), (255, 255, 255)
ORANGE = (255, 140, 0)
# Pixels: the width of most letters, and the distance of two lines.
LETTER, LINE = 7, 15


def contact_sheet(
    images: NDArray[np.uint8], predicted: Sequence[str], truth: Sequence[str], scores: Sequence[float], columns: int = 8
) -> Image.Image:
    """Return one picture of many images, each with its predicted label: green if correct, else red with the true label.

    `images` are uint8 (N, H, W, 1), 0..255; `scores`, 0..1, are those of the predicted labels.

    Raises:
        DataError: there is no image.
        MissingDependency: Matplotlib, whose font writes the labels, is not installed.
    """
    if not len(images):
        raise DataError("there is no image to show; pass at least one")
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + CAPTION)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _load_font(10)
    for position, image in enumerate(images):
        left, top = position % columns * CELL, position // columns * (CELL + CAPTION)
        _paste(sheet, image, left, top)
        correct = predicted[position] == truth[position]
        line = _fit("", predicted[position], f" {scores[position]:.0%}", draw, font)
        draw.text((left + 5, top + CELL - 2), line, GREEN if correct else RED, font)
        if not correct:
            draw.text((left + 5, top + CELL + 12), _fit("is ", truth[position], "", draw, font), INK, font)
    return sheet


def _fit(before: str, label: str, after: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    """Return the three in one line, the label cut so that the line stays in its cell."""
    line, kept = before + label + after, len(label)
    while kept and draw.textlength(line, font) > CELL - 10:
        kept -= 1
        line = f"{before}{label[:kept]}…{after}"
    return line


def preview_sheet(
    originals: NDArray[np.uint8],
    copies: Sequence[NDArray[np.uint8]],
    borders: Sequence[NDArray[np.float64]] = (),
    settings: str = "",
) -> Image.Image:
    """Return one picture of what augmentation does: a row for each image, the original and then its augmented copies.

    Args:
        originals: uint8 (N, H, W, 1), 0..255.
        copies: each like the originals.
        borders: for each copy the corners of the N originals in it, float (N, 4, 2), x and y, 0..1 in the copy.
        settings: written above.

    Raises:
        DataError: there is no image.
        MissingDependency: Matplotlib, whose font writes the labels, is not installed.
    """
    if not len(originals):
        raise DataError("there is no image to show; pass at least one")
    font, width = _load_font(11), (1 + len(copies)) * CELL
    note = (
        "Beyond the orange line, which is the border of the image, a copy shows the image mirrored." if borders else ""
    )
    lines = [line for text in (settings, note) for line in textwrap.wrap(text, width // LETTER)]
    top = LINE * len(lines) + HEADING
    sheet = Image.new("RGB", (width, len(originals) * CELL + top), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((5, 3), "\n".join(lines), INK, font, spacing=LINE - 13)
    for column, images in enumerate((originals, *copies)):
        draw.text((column * CELL + 5, top - HEADING + 3), f"copy {column}" if column else "original", INK, font)
        for row, image in enumerate(images):
            edge = borders[column - 1][row] if column and borders else None
            _paste(sheet, image, column * CELL, row * CELL + top, edge=edge)
    return sheet


def _paste(
    sheet: Image.Image, image: NDArray[np.uint8], left: int, top: int, edge: NDArray[np.float64] | None = None
) -> None:
    side = CELL - 8
    picture = Image.fromarray(image[:, :, 0]).resize((side, side), Image.Resampling.BILINEAR).convert("RGB")
    if edge is not None:
        ImageDraw.Draw(picture).polygon([(x, y) for x, y in (edge * side - 0.5).tolist()], outline=ORANGE)
    sheet.paste(picture, (left + 4, top + 4))


def _load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Matplotlib's font, because Pillow's own has no letter beyond ASCII."""
    require_matplotlib()
    import matplotlib

    # As text: Pillow 10.1 takes no path.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
