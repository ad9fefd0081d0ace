"""Converts gray of more than 8 bits, and floats, to 8 bits.

Which value is white depends on the file, the caller (`bits`) or the type of the values, never on the picture's own
brightest value: all pictures of one camera must be scaled alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError, ImageWarning
from edgecls.images.pillow import DEEP_MODES, gray_8bit, map_rows
from edgecls.limits import MOST_BITS

# A largest value between 1 and this fits neither 0..1 nor, unless the picture is black, 0..255.
LEAST_BYTE_RANGE = 16
# Of 255 gray levels: fewer cannot show what values of more than 8 bits do.
LEAST_LEVELS, MOST_OF_THEM = 16, 0.9
# A picture without higher values, of 65535, is nearly black in 8 bits.
NEARLY_BLACK = 4095
# Bits of cameras that write 16-bit files.
_CAMERA_BITS = (8, 10, 12, 14)


class Scale(NamedTuple):
    """How the values of one picture of more than 8 bits were scaled."""

    white: int  # the value that became 255
    largest: float  # the largest value in the picture
    stated: bool  # whether the file or the caller stated which value is white
    levels: float = 255  # gray levels that it spans, if it has far more values than these and fewer than LEAST_LEVELS

    @property
    def is_nearly_black(self) -> bool:
        """Return True for a picture of 16 bits whose camera probably has fewer."""
        return self.white == 65535 and not self.stated and 0 < self.largest <= NEARLY_BLACK


def to_gray(
    image: Image.Image, name: str, key_factor: int, stated: int | None, bits: int | None
) -> tuple[Image.Image, Scale]:
    """Return a loaded picture of more than 8 bits in mode L, and how it was scaled.

    Args:
        image: Pillow reads 16-bit PNG and PGM as mode I, so that counts as 16 bits.
        name: for errors.
        key_factor: of `pillow.key_factor`.
        stated: bits that are used as stated in the file.
        bits: bits that are used if the file states nothing; None is 16.

    Raises:
        DataError: values are outside the range, or the range is not clear, or the picture is not supported.
    """
    if image.mode not in DEEP_MODES:
        scale = _check_color(image, name, stated, bits)
        return gray_8bit(image, name, key_factor), scale
    values = np.asarray(image)
    if image.mode == "F":
        return _gray_float(values, name)
    depth = stated or bits or 16
    white = 2**depth - 1
    low, high = int(values.min()), int(values.max())
    # In PNG's specification the used bits are the upper ones of the 16; programs of cameras use the lower ones.
    if stated and image.format == "PNG" and (high > white or _is_left_aligned(values, stated)):
        white = 65535
    if low < 0 or high > white:
        remedy = "rescale it" if depth == 16 else "give the right number of bits, or rescale it"
        raise DataError(
            f"image {name} of mode {image.mode} has values from {low} to {high}; expected 0 to {white}: {remedy}"
        )
    # Half of white is added to round to the nearest; white is odd, so there are no ties.
    gray = map_rows(lambda part: (part.astype(np.uint32) * 255 + white // 2) // white, values)
    gray[values == image.info.get("transparency", -1)] = 0  # a PNG's transparent gray becomes black
    return Image.fromarray(gray), Scale(white, high, bool(stated or bits), _count_levels(values, high - low, white))


def _check_color(image: Image.Image, name: str, stated: int | None, bits: int | None) -> Scale:
    """Return the scale of a loaded color picture of 16 bits, of which Pillow keeps the upper 8.

    If fewer bits are used, the upper 8 would be almost black: it is refused.
    """
    colors = [band for band in image.getbands() if band != "A"]
    largest = max(int(np.asarray(image.getchannel(band)).max()) for band in colors)
    used = stated or bits or 16
    if used < 16 and (not stated or largest <= (2**used - 1) >> 8):
        raise DataError(
            f"image {name} is a 16-bit picture of mode {image.mode}, which is read with 65535 as white; with "
            f"{used} bits used it would be dark: save it as 16-bit gray, or as 8 bits"
        )
    return Scale(65535, largest << 8 | 255, bool(stated))


def advise(scales: Iterable[Scale], option: str) -> tuple[str, ...]:
    """Return warnings about the pictures of more than 8 bits in a folder, with remedies.

    Args:
        scales: of these pictures.
        option: the one that sets the number of bits.
    """
    found = [scale for scale in scales if scale.largest > 0]
    return tuple(text for text in (_few_bits(found, option) or _few_levels(found), _two_ranges(found)) if text)


def describe_nearly_black(scales: Iterable[Scale]) -> str:
    """Return a warning about pictures that a trained network got nearly black, with the remedies; "" for none."""
    if not (count := sum(scale.is_nearly_black for scale in scales)):
        return ""
    images, were = ("a 16-bit image has", "it was") if count == 1 else (f"{count:,} 16-bit images have", "they were")
    return (
        f"{images} no value above {NEARLY_BLACK} of 65535, so {were} read as nearly black. If the camera has fewer "
        "bits, rescale its images to 8 bits, or train again with --bits"
    )


def warn_of_nearly_black(scales: Iterable[Scale]) -> None:
    """Issue the warning of `describe_nearly_black`, if there is one, as an ImageWarning."""
    if text := describe_nearly_black(scales):
        warnings.warn(text, ImageWarning, stacklevel=3)


def _few_bits(scales: Sequence[Scale], option: str) -> str:
    deep = [scale.largest for scale in scales if scale.white == 65535 and not scale.stated]
    used = next((bits for bits in _CAMERA_BITS if deep and max(deep) < 2**bits), None)
    if used is None:
        return ""
    return (
        f"No value of the {len(deep)} 16-bit images is above {int(max(deep))}, so they were read as nearly black. If "
        f"the camera has {used} bits, train again with {option} {used}."
    )


def _count_levels(values: NDArray[Any], span: float, white: int) -> float:
    """Return `levels` of `Scale` for values of which the largest is `span` above the smallest."""
    levels = span * 255 / white
    return levels if levels < LEAST_LEVELS and len(np.unique(values)) > 2 * (levels + 1) else 255


def _few_levels(scales: Sequence[Scale]) -> str:
    levels = [each.levels for each in scales]
    if not levels or (most := float(np.quantile(levels, MOST_OF_THEM))) >= LEAST_LEVELS:
        return ""
    return (
        f"The values of {len(levels)} images of more than 8 bits span few of 255 gray levels (nine of ten at most "
        f"{most:.1f}), so most of their contrast is lost. Rescale all alike, to values from 0 to {scales[0].white}."
    )


def _two_ranges(scales: Sequence[Scale]) -> str:
    unit, byte = (sum(scale.white == white and not scale.stated for scale in scales) for white in (1, 255))
    if not unit or not byte:
        return ""
    return (
        f"{unit} float images lie within 0 to 1 and were read with 1 as white, {byte} go up to 255 and were read with "
        "255 as white. If all have one range, rescale them to 8 bits."
    )


def _gray_float(values: NDArray[np.float32], name: str) -> tuple[Image.Image, Scale]:
    """Return floats within 0..1 with 1 as white, others within 0..255 with 255 as white.

    A picture of 0..255 with no value above 1 is black; with 1 as white it is noise, and `advise` warns about it. With a
    largest value between 1 and `LEAST_BYTE_RANGE`, it may be one of 0..1 that a filter took beyond its range: refused.
    """
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255 and not 1 < high < LEAST_BYTE_RANGE):  # NaN fails too
        raise DataError(
            f"image {name} of floats has values from {low:.6g} to {high:.6g}; expected 0 to 1, or 0 to 255 and some "
            f"above {LEAST_BYTE_RANGE}: rescale it"
        )
    white = 1 if high <= 1 else 255
    gray = map_rows(lambda part: np.rint(part * np.float32(255 / white)), values)
    return Image.fromarray(gray), Scale(white, float(high), False, _count_levels(values, float(high - low), white))


def _is_left_aligned(values: NDArray[np.generic], bits: int) -> bool:
    """Return whether values that fit into `bits` are those of a dark picture that uses the upper bits.

    Its lower bits are zero or repeat the upper ones, which are zero in a dark picture, apart from rounding.
    """
    step = 2 ** (MOST_BITS - bits)
    return not np.any(values % step >= min(2, step - 1))
