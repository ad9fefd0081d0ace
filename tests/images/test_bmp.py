"""Tests of edgecls.images.pillow: alpha that is none, and palettes that Pillow leaves out."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from image_files import RGB, luma, on_black
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray


def bmp(
    rows: bytes, bits: int, *, size: tuple[int, int], header: int = 40, masks: bytes = b"", table: bytes = b""
) -> bytes:
    """Return a BMP of rows from the bottom; masks of a header of 40 bytes follow it."""
    start = struct.pack("<IiiHHIIiiII", header, *size, 1, bits, 3 if masks else 0, len(rows), 0, 0, len(table) // 4, 0)
    start += masks + (b"BGRs" + bytes(header - 40 - 16 - 4) if header > 40 else b"")
    offset = 14 + len(start) + len(table)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + start + table + rows


def bgra(alpha: NDArray[np.uint8]) -> bytes:
    return np.dstack([RGB[::-1, :, ::-1], alpha[::-1]]).tobytes()


@pytest.mark.parametrize("header", [108, 124])
@pytest.mark.parametrize("masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000)])
def test_alpha_of_nothing_is_no_alpha(header: int, masks: tuple[int, ...]) -> None:
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    options = {"size": RGB.shape[1::-1], "header": header, "masks": struct.pack("<4I", *masks)}
    np.testing.assert_array_equal(np.asarray(decode_gray(bmp(bgra(alpha), 32, **options))), luma(RGB))  # type: ignore[arg-type]
    # One pixel is enough to say that alpha is meant.
    alpha[2, 3] = 128
    shown = np.asarray(decode_gray(bmp(bgra(alpha), 32, **options)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown, on_black(luma(RGB), alpha))


def test_padding_of_32_bits_without_masks_is_no_alpha() -> None:
    alpha = np.arange(RGB.shape[0] * RGB.shape[1], dtype=np.uint8).reshape(RGB.shape[:2])
    data = bmp(bgra(alpha), 32, size=(RGB.shape[1], RGB.shape[0]))
    np.testing.assert_array_equal(np.asarray(decode_gray(data)), luma(RGB))


@pytest.mark.parametrize("bits", [4, 8])
def test_palette_of_grays_at_another_depth_is_refused(bits: int) -> None:
    """Black and white in a file of 8 bits a pixel: Pillow reads eight pixels from each byte."""
    rows = bytes([0, 1, 1, 0] if bits == 8 else [0x01, 0x10, 0, 0])
    table = b"\0\0\0\0\xff\xff\xff\0"
    with pytest.raises(DataError, match=f"BMP of {bits} bits with a palette of grays, which is not supported"):
        decode_gray(bmp(rows, bits, size=(4, 1), table=table))


def test_palettes_of_the_files_own_depth_are_read() -> None:
    table = b"\0\0\0\0\xff\xff\xff\0"
    assert np.asarray(decode_gray(bmp(b"\x60\0\0\0", 1, size=(4, 1), table=table))).tolist() == [[0, 255, 255, 0]]
    red = b"\0\0\xff\0\xff\xff\xff\0"
    assert np.asarray(decode_gray(bmp(b"\0\1\1\0", 8, size=(4, 1), table=red))).tolist() == [[76, 255, 255, 76]]
