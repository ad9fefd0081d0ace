"""Image files and pixels made by hand, for the tests of edgecls.images.decode."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]
LEVELS_16 = np.array([[0, 127, 128, 129, 255, 256, 32768, 65407, 65535]], np.uint16)
LOSSLESS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("PPM", {}),
    ("WEBP", {"lossless": True, "exact": True}),
)
FORMATS = (*LOSSLESS, ("JPEG", {"quality": 90}))


# Pillow's own steps of the EXIF orientations, written as numpy on rows and columns.
TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ITU-R 601: 0.299, 0.587 and 0.114 as fractions of 65536."""
    red, green, blue = np.moveaxis(rgb.astype(np.int64), 2, 0)
    gray: NDArray[np.uint8] = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)
    return gray


def on_black(gray: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.floor(gray.astype(float) * alpha / 255 + 0.5).astype(np.uint8)


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, color: int = 0) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(tags: dict[int, int], data: bytes) -> bytes:
    """Return a little-endian TIFF of one 8 x 1 gray picture whose data lies in one strip or tile."""
    tags = {256: 8, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1} | tags
    offset = 8 + 2 + 12 * (len(tags) + 2) + 4
    tiled = 322 in tags
    tags |= {324: offset, 325: len(data)} if tiled else {273: offset, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def repair_png_checksums(data: bytes) -> bytes:
    """Return the bytes with right CRCs, so that damage reaches what lies behind the checksum test."""
    fixed, start = bytearray(data), 8
    while start + 12 <= len(fixed):
        end = start + 8 + int.from_bytes(fixed[start : start + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[start + 4 : end]))
        start = end + 4
    return bytes(fixed)


SEEDS = tuple(
    encode(Image.fromarray(RGB), image_format, exif=exif, **options) if image_format != "PPM" else b"P5 2 2 255\n1234"
    for image_format, options in FORMATS
    for exif in (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",)
) + (
    encode(Image.fromarray(LEVELS_16), "PNG"),
    encode(Image.fromarray(RGB).quantize(8), "PNG", transparency=bytes(8)),
    encode(Image.fromarray(GRAY).convert("1"), "TIFF", compression="group4"),
)
