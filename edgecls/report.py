"""Pictures of a run, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgecls.errors import DataError

CELL = 112
CAPTION = 34
GREEN, RED, INK, PAPER = (22, 120, 60), (190, 30, 30), (20, 20, 20), (255, 255, 255)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    images: NDArray[np.uint8], predicted: Sequence[str], truth: Sequence[str], scores: Sequence[float], columns: int = 8
) -> Image.Image:
    """Return one picture of many images, each with its predicted label: green if right, red with the truth if wrong.

    Args:
        images: uint8 (N, H, W, 1), 0..255.
        predicted: label of each image.
        truth: true label of each image.
        scores: score of the predicted label, 0..1.
        columns: images a row.

    Raises:
        DataError: there is no image.
    """
    if not len(images):
        raise DataError("there is no image to show; pass at least one")
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + CAPTION)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for position, image in enumerate(images):
        left, top = position % columns * CELL, position // columns * (CELL + CAPTION)
        picture = Image.fromarray(image[:, :, 0]).resize((CELL - 8, CELL - 8), Image.Resampling.BILINEAR)
        sheet.paste(picture, (left + 4, top + 4))
        right = predicted[position] == truth[position]
        line = _fit("", predicted[position], f" {scores[position]:.0%}", draw, font)
        draw.text((left + 5, top + CELL - 2), line, GREEN if right else RED, font)
        if not right:
            draw.text((left + 5, top + CELL + 12), _fit("is ", truth[position], "", draw, font), INK, font)
    return sheet


def _fit(before: str, label: str, after: str, draw: ImageDraw.ImageDraw, font: _Font) -> str:
    """Return the three in one line, the label cut so that the line stays in its cell."""
    line, kept = before + label + after, len(label)
    while kept and draw.textlength(line, font) > CELL - 10:
        kept -= 1
        line = f"{before}{label[:kept]}…{after}"
    return line
