"""Pictures of many images, drawn with Pillow in Matplotlib's font."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgecls.errors import DataError
from edgecls.images.matplotlib_figure import font_path
from edgecls.messages.names import safe

CELL = 112
CAPTION = 34
HEADING = 20
# Large enough to see a defect; four fit the width of a page.
LARGE = 208
LARGE_COLUMNS = 4
# Gray levels between the darkest and the brightest hundredth of an image that is shown with more contrast.
LOW_RANGE = 48
GREEN, RED, INK, SOFT, PAPER = (22, 120, 60), (190, 30, 30), (20, 20, 20), (90, 90, 90), (255, 255, 255)
ORANGE = (255, 140, 0)
# Pixels: the width of most letters, and the distance of two lines.
LETTER, LINE = 7, 15


def contact_sheet(
    images: NDArray[np.uint8],
    predicted: Sequence[str],
    truth: Sequence[str],
    scores: Sequence[float],
    columns: int = 8,
    *,
    names: Sequence[str] = (),
) -> Image.Image:
    """Return one picture of many images, each with its predicted label, marked as correct or incorrect.

    Incorrect ones also show the true label. Images of few gray levels get more contrast, and their captions say so.

    Args:
        images: uint8 (N, H, W, 1), 0..255.
        predicted: labels.
        truth: labels.
        scores: of the predicted labels, 0..1.
        columns: images in a row.
        names: of the images, shown below them; with names the images are larger.

    Raises:
        DataError: there is no image.
        MissingDependency: Matplotlib, whose font writes the labels, is not installed.
    """
    if not len(images):
        raise DataError("there is no image to show; pass at least one")
    cell, line = (LARGE, 18) if names else (CELL, 14)
    height = cell + (line * 3 + 6 if names else CAPTION)
    sheet = Image.new("RGB", (columns * cell, -(-len(images) // columns) * height), PAPER)
    draw, font = ImageDraw.Draw(sheet), _load_font(13 if names else 10)
    fit = functools.partial(_fit, draw, font, cell - 10)
    for position, image in enumerate(images):
        left, top = position % columns * cell, position // columns * height
        _show(sheet, image, left, top, cell, font)
        name = names[position] if names else ""
        caption = _caption(predicted[position], truth[position], scores[position], name, fit)
        for row, (text, ink) in enumerate(caption):
            draw.text((left + 5, top + cell - 2 + line * row), text, ink, font)
    return sheet


def _caption(
    predicted: str, truth: str, score: float, name: str, fit: Callable[..., str]
) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines below an image, each with its color."""
    if predicted == truth:
        lines = [(fit("\u2713 ", predicted, f" {score:.0%}"), GREEN)]
    else:
        lines = [(fit("\u2717 ", predicted, f" {score:.0%}"), RED), (fit("is ", truth), INK)]
    # The end of a path tells more than its beginning.
    return [*lines, (fit("", name, keep_end=True), SOFT)] if name else lines


def stretch(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return an image, uint8 (H, W, 1), and 1.0; or, if it has few gray levels, with more contrast, and how much."""
    low, high = np.percentile(image, (1, 99))
    if high - low >= LOW_RANGE or high == low:
        return image, 1.0
    factor = 255 / (high - low)
    return np.clip((image.astype(np.float32) - low) * factor, 0, 255).astype(np.uint8), float(factor)


def _show(
    sheet: Image.Image, image: NDArray[np.uint8], left: int, top: int, cell: int, font: ImageFont.FreeTypeFont
) -> None:
    """Paste an image, with more contrast and a mark that says so if it has few gray levels."""
    shown, factor = stretch(image)
    _paste(sheet, shown, left, top, cell)
    if factor == 1:
        return
    draw, text = ImageDraw.Draw(sheet), f"contrast x{factor:.0f}"
    box = draw.textbbox((left + 7, top + 6), text, font)
    draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), PAPER)
    draw.text((left + 7, top + 6), text, INK, font)


def _fit(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    width: float,
    before: str,
    label: str,
    after: str = "",
    *,
    keep_end: bool = False,
) -> str:
    """Return the three in one line of at most `width` pixels, for which the beginning or end of the label is cut."""
    label = safe(label).replace("\n", "\\n")
    line, kept = before + label + after, len(label)
    while kept and draw.textlength(line, font) > width:
        kept -= 1
        line = (
            f"{before}\u2026{label[len(label) - kept :]}{after}" if keep_end else f"{before}{label[:kept]}\u2026{after}"
        )
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
            _paste(sheet, image, column * CELL, row * CELL + top, CELL, edge)
    return sheet


def _paste(
    sheet: Image.Image,
    image: NDArray[np.uint8],
    left: int,
    top: int,
    cell: int,
    edge: NDArray[np.float64] | None = None,
) -> None:
    side = cell - 8
    picture = Image.fromarray(image[:, :, 0]).resize((side, side), Image.Resampling.BILINEAR).convert("RGB")
    if edge is not None:
        ImageDraw.Draw(picture).polygon([(x, y) for x, y in (edge * side - 0.5).tolist()], outline=ORANGE)
    sheet.paste(picture, (left + 4, top + 4))


def _load_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_path(), size)
