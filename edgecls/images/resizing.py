"""Where a picture goes in the network's input, and its resize: what `Preprocessing` says, in whole pixels.

All sizes are (width, height), all boxes (left, top, right, bottom). `place` works on the upright picture in its own
size: the region of interest is cut out first, then the rest of that is stretched, cropped or padded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from PIL import Image

from edgecls.errors import DataError
from edgecls.preprocessing import Preprocessing

# With 1, a DCT at 1/4 before a small resize changes photographs by up to 18 gray values; with 2, by up to 6.
SPARE = 2
# Beside a picture that is padded: what is neither dark nor bright.
PAD_GRAY = 128
SIDEWAYS = (5, 6, 7, 8)
_T = Image.Transpose
_UPRIGHT = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE}
_UPRIGHT |= {6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}
# EXIF orientations of which the stored picture is mirrored along x or y, seen from the upright one.
_MIRRORED_X, _MIRRORED_Y = (2, 3, 7, 8), (3, 4, 6, 7)

Size = tuple[int, int]
Box = tuple[int, int, int, int]


class Placement(NamedTuple):
    """The part of an upright picture that the network gets, and where it goes."""

    box: Box  # of the part
    size: Size  # that the part gets
    offset: Size  # of its upper left corner in the input; (0, 0) unless it is padded

    @property
    def part(self) -> Size:
        """Return the size of the part."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


def place(picture: Size, wanted: Size, preprocessing: Preprocessing, name: str) -> Placement:
    """Return where a picture goes in an input of the size `wanted`.

    Raises:
        DataError: the region of interest is not inside the picture `name`.
    """
    left, top, width, height = preprocessing.roi or (0, 0, *picture)
    if left + width > picture[0] or top + height > picture[1]:
        raise DataError(
            f"image {name} has {picture[0]} x {picture[1]} pixels; the ROI {left},{top},{width},{height} (left, top, "
            "width, height) reaches beyond it: choose one inside all images, or leave this image out"
        )
    size, offset = wanted, (0, 0)
    if preprocessing.resize == "crop":
        part = _largest((width, height), wanted)
        left, top = left + (width - part[0]) // 2, top + (height - part[1]) // 2
        width, height = part
    elif preprocessing.resize == "pad":
        size = _largest(wanted, (width, height))
        offset = (wanted[0] - size[0]) // 2, (wanted[1] - size[1]) // 2
    return Placement((left, top, left + width, top + height), size, offset)


def _largest(room: Size, like: Size) -> Size:
    """Return the largest size in `room` with the aspect ratio of `like`: a whole side, the other rounded, half up."""
    width, height = room
    if width * like[1] > height * like[0]:
        return max(1, (2 * height * like[0] + like[1]) // (2 * like[1])), height
    return width, max(1, (2 * width * like[1] + like[0]) // (2 * like[0]))


def upright_size(stored: Size, orientation: int) -> Size:
    """Return the size of a picture after it is rotated as EXIF's orientation says."""
    return stored[::-1] if orientation in SIDEWAYS else stored


def choose_shrink(placement: Placement) -> int:
    """Return the largest of 1, 2, 4 and 8 by which a DCT may shrink and leave `SPARE` times the size of the part."""
    room = min(part // (SPARE * size) for part, size in zip(placement.part, placement.size, strict=True))
    return next((factor for factor in (8, 4, 2) if factor <= room), 1)


def fit(gray: Image.Image, shrunk: int, stored: Size, orientation: int, placement: Placement) -> Image.Image:
    """Return the part of a picture that the network gets, upright, in the size that it gets.

    Args:
        gray: the stored picture, decoded at 1 / `shrunk` of its size; its last row and column may be partly used.
        shrunk: of `choose_shrink`.
        stored: size of the picture in full.
        orientation: EXIF's.
        placement: of the upright picture.
    """
    left, top, right, bottom = (side / shrunk for side in _to_stored(placement.box, stored, orientation))
    # Cut first, so that no pixel outside has a part in the result; of a shrunk picture, the pixels on the edge have.
    outer = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    if outer != (0, 0, *gray.size):
        gray = gray.crop(outer)
    box = left - outer[0], top - outer[1], right - outer[0], bottom - outer[1]
    return turn(_resize(gray, box, upright_size(placement.size, orientation)), orientation)


def pad(picture: Image.Image, wanted: Size, offset: Size) -> Image.Image:
    """Return a picture (mode L) with gray around it; itself if it has the wanted size."""
    if picture.size == wanted:
        return picture
    canvas = Image.new("L", wanted, PAD_GRAY)
    canvas.paste(picture, offset)
    return canvas


def _to_stored(box: Box, stored: Size, orientation: int) -> Box:
    """Return a box of the upright picture in the stored one."""
    left, top, right, bottom = box if orientation not in SIDEWAYS else (box[1], box[0], box[3], box[2])
    if orientation in _MIRRORED_X:
        left, right = stored[0] - right, stored[0] - left
    if orientation in _MIRRORED_Y:
        top, bottom = stored[1] - bottom, stored[1] - top
    return left, top, right, bottom


def _resize(gray: Image.Image, box: tuple[float, float, float, float], wanted: Size) -> Image.Image:
    left, top, right, bottom = box
    factors = (
        max(int((right - left) / wanted[0] / SPARE), 1),
        max(int((bottom - top) / wanted[1] / SPARE), 1),
    )
    if max(factors) > 1:
        gray = gray.reduce(factors)
    # One axis a call: each rounds, and their order differs between releases of Pillow.
    across = (left / factors[0], 0, right / factors[0], gray.height)
    gray = gray.resize((wanted[0], gray.height), Image.Resampling.BILINEAR, across)
    down = (0, top / factors[1], wanted[0], bottom / factors[1])
    return gray.resize(wanted, Image.Resampling.BILINEAR, down)


def turn(gray: Image.Image, orientation: int) -> Image.Image:
    """Return a stored picture rotated as EXIF's orientation says."""
    # ImageOps.exif_transpose() would rewrite the EXIF block, and copy upright pictures.
    return gray.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else gray
