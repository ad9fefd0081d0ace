"""Images of a run by name, as large as a page needs them: what was predicted of each, and what it is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgecls.errors import DataError
from edgecls.images.contact_sheet import stretch
from edgecls.images.decode import decode_gray
from edgecls.report.heatmaps import Draw

# Pixels of the longer side.
SIDE = 400


@dataclass(frozen=True)
class ScoredImage:
    """One image: its path in the folder of images, its class, the predicted class and that one's score, 0..1."""

    path: str
    truth: str
    predicted: str
    score: float


@dataclass(frozen=True)
class Shown:
    """A prediction with its picture."""

    prediction: ScoredImage  # of the image
    data: str  # PNG as base64; "" if the image cannot be read
    width: int = 0  # in pixels
    height: int = 0  # in pixels
    note: str = ""  # what was done to the picture, or why there is none
    heatmap: str = ""  # what the network takes of it, under its heat map: PNG as base64; "" if there is none

    @property
    def is_correct(self) -> bool:
        """True if the predicted class is the image's."""
        return self.prediction.predicted == self.prediction.truth


def show(
    folder: Path, predictions: Iterable[ScoredImage], bits: int | None, draw: Draw | None = None
) -> Iterator[Shown]:
    """Yield each prediction with the picture in `folder`, in its own shape, and its heat map.

    Args:
        folder: of images.
        predictions: for images in it.
        bits: as in `Preprocessing`.
        draw: of `find_heatmaps`.
    """
    for prediction in predictions:
        try:
            picture = decode_gray(folder / prediction.path, bits)
        except DataError as error:
            yield Shown(prediction, "", note=f"The image can no longer be read: {error}")
            continue
        _shrink(picture)
        pixels, factor = stretch(np.asarray(picture)[:, :, None])
        note = "" if factor == 1 else f"shown with {factor:.1f} times the contrast"
        heatmap = _encode(_shrink(draw(folder / prediction.path, prediction.predicted))) if draw else ""
        yield Shown(prediction, _encode(Image.fromarray(pixels[:, :, 0])), *picture.size, note, heatmap)


def _shrink(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SIDE, SIDE))
    return picture


def _encode(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
