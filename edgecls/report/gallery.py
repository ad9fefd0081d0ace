"""Images of a run by name, as large as a page needs them: what was predicted of each, and what it is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray

# Pixels of the longer side.
SIDE = 400
# Gray levels of an image that would be almost one gray.
LOW_RANGE = 48


@dataclass(frozen=True)
class Prediction:
    """One image: its path in the folder of images, its class, the predicted class and that one's score, 0..1."""

    path: str
    truth: str
    predicted: str
    score: float


@dataclass(frozen=True)
class Shown:
    """A prediction with its picture."""

    prediction: Prediction  # of the image
    data: str  # PNG as base64; "" if the image cannot be read
    width: int = 0  # in pixels
    height: int = 0  # in pixels
    note: str = ""  # what was done to the picture, or why there is none

    @property
    def is_correct(self) -> bool:
        """True if the predicted class is the image's."""
        return self.prediction.predicted == self.prediction.truth


def show(folder: Path, predictions: Iterable[Prediction], bits: int | None) -> Iterator[Shown]:
    """Yield each prediction with the picture in `folder`, in its own shape; `bits` as in `images.decode.load_gray`."""
    for prediction in predictions:
        try:
            picture = decode_gray(folder / prediction.path, bits)
        except DataError as error:
            yield Shown(prediction, "", note=f"The image can no longer be read: {error}")
            continue
        picture.thumbnail((SIDE, SIDE))
        low, high = picture.getextrema()
        note = ""
        if isinstance(low, int) and isinstance(high, int) and high - low < LOW_RANGE:
            picture, note = ImageOps.autocontrast(picture), "shown with more contrast"
        yield Shown(prediction, _encode(picture), *picture.size, note)


def _encode(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
