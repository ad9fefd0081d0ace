"""Tests of PNG files in edgecls.images.pillow: damaged metadata do no harm, and damaged pixels are noticed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_files import RGB, TURNS, encode, luma, png
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray, load_gray
from edgecls.images.pillow import check_png

GRAY = np.random.default_rng(5).integers(0, 256, (20, 30), dtype=np.uint8)
NOISE = np.random.default_rng(1).normal(128, 9, (300, 300)).clip(0, 255).astype(np.uint8)
SIDEWAYS = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def chunk(kind: bytes, body: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ damage)


def insert(data: bytes, *chunks: bytes, at: int = 33) -> bytes:
    return data[:at] + b"".join(chunks) + data[at:]


def gray_of(source: Any) -> NDArray[np.uint8]:
    return np.asarray(decode_gray(source))


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"eXIf", b"garbage"),
        chunk(b"eXIf", b""),
        chunk(b"tEXt", b"Comment\0hello", damage=1),
        chunk(b"iCCP", b"x\0\0garbage"),
        chunk(b"gAMA", b"\0"),
        chunk(b"pHYs", b"\0"),
        chunk(b"cHRM", b"\0", damage=3),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta"),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK * 2))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 900_000)) * 80,
        chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000, damage=1),
    ],
    ids=lambda odd: odd[4:8].decode(),
)
@pytest.mark.parametrize("behind", [False, True])
def test_metadata_that_cannot_be_read_costs_no_pixel(odd: bytes, behind: bool, tmp_path: Any) -> None:
    whole = encode(Image.fromarray(GRAY), "PNG")
    data = insert(whole, odd, at=len(whole) - 12 if behind else 33)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (data, path):
        np.testing.assert_array_equal(gray_of(source), GRAY)


def test_turn_is_kept_beside_damage() -> None:
    whole = encode(Image.fromarray(GRAY), "PNG")
    data = insert(whole, chunk(b"eXIf", SIDEWAYS), chunk(b"tEXt", b"a\0b", damage=1))
    np.testing.assert_array_equal(gray_of(data), TURNS[6](GRAY))


def test_turn_whose_checksum_is_wrong_is_not_believed() -> None:
    data = insert(encode(Image.fromarray(GRAY), "PNG"), chunk(b"eXIf", SIDEWAYS, damage=1))
    np.testing.assert_array_equal(gray_of(data), GRAY)


def test_webp_with_garbage_for_exif_is_read() -> None:
    data = encode(Image.fromarray(RGB), "WEBP", lossless=True, exif=b"garbage")
    np.testing.assert_array_equal(gray_of(data), luma(RGB))


@pytest.mark.parametrize("kind", [b"IDAT", b"IHDR", b"tRNS", b"PLTE"])
def test_damage_of_what_pixels_need_is_still_refused(kind: bytes) -> None:
    palette = Image.fromarray(GRAY % 4)
    palette.putpalette([10, 20, 30, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    data = bytearray(insert(encode(palette, "PNG", transparency=1), chunk(b"tEXt", b"a\0b", damage=1)))
    data[data.index(kind) + 4] ^= 1
    with pytest.raises(DataError, match="cannot decode image|is damaged: the checksum of its"):
        load_gray(bytes(data), 4, 4)


def test_cut_file_is_still_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)
    data = insert(encode(Image.fromarray(noise), "PNG"), chunk(b"tEXt", b"a\0b", damage=1))
    for length in (len(data) - 700, 60, 40):
        with pytest.raises(DataError, match="cannot decode image"):
            load_gray(data[:length], 4, 4)


# Transparent colors


@pytest.mark.parametrize(("depth", "white"), [(1, 1), (2, 3), (4, 15)])
def test_transparent_gray_of_few_bits_becomes_black(depth: int, white: int) -> None:
    row = bytes([0b11000000 if depth == 1 else 0b11010000 if depth == 2 else white << 4 | 1])
    chunks = (b"tRNS", struct.pack(">H", white)), (b"IDAT", zlib.compress(b"\0" + row))
    data = png(2, 1, *chunks, depth=depth)
    expected = [0, 0] if depth == 1 else [0, 255 // white]
    assert gray_of(data).ravel().tolist() == expected
    with Image.open(io.BytesIO(data)) as image:
        assert gray_of(image).ravel().tolist() == expected
        # The caller's picture is not ours to change.
        assert depth == 1 or image.info["transparency"] == white


def test_transparent_color_of_16_bits_a_channel_is_refused() -> None:
    pixels = struct.pack(">6H", 256, 512, 768, 1000, 2000, 3000)
    data = png(2, 1, (b"tRNS", pixels[:6]), (b"IDAT", zlib.compress(b"\0" + pixels)), depth=16, color=2)
    with pytest.raises(DataError, match="16 bits a channel and one transparent color"):
        load_gray(data, 1, 2)


# Significant bits


def png16(values: NDArray[Any], *chunks: tuple[bytes, bytes]) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], len(values), *chunks, (b"IDAT", zlib.compress(rows)), depth=16)


@pytest.mark.parametrize("bits", [10, 12, 14, 15])
def test_bits_on_the_right_are_scaled_by_sbit(bits: int) -> None:
    white = 2**bits - 1
    values = np.rint(GRAY / 255 * white).astype(int)
    np.testing.assert_array_equal(gray_of(png16(values, (b"sBIT", bytes([bits])))), np.rint(values / white * 255))


@pytest.mark.parametrize("scale", [1.0, 0.06])
@pytest.mark.parametrize("filled", ["zeros", "repeated", "rounded"])
def test_bits_on_the_left_are_left_alone(filled: str, scale: float) -> None:
    """As the specification of PNG has it; of a dark picture too, whose values would fit into the bits on the right."""
    values = np.rint(GRAY / 255 * scale * 4095).astype(int)
    left = {"zeros": values << 4, "repeated": values << 4 | values >> 8, "rounded": np.rint(values / 4095 * 65535)}
    pixels = np.asarray(left[filled]).astype(int)
    np.testing.assert_array_equal(gray_of(png16(pixels, (b"sBIT", b"\x0c"))), np.rint(pixels / 257))


def test_sbit_of_a_dark_16_bit_color_picture_is_refused() -> None:
    row = struct.pack(">6H", *range(0, 4096, 800))
    parts = (b"sBIT", bytes([12, 12, 12])), (b"IDAT", zlib.compress(b"\0" + row))
    with pytest.raises(DataError, match="16-bit picture of mode RGB.*with 12 bits used it would be dark"):
        load_gray(png(2, 1, *parts, depth=16, color=2), 1, 2)
    bright = struct.pack(">6H", *range(0, 65536, 13107))
    whole = png(2, 1, parts[0], (b"IDAT", zlib.compress(b"\0" + bright)), depth=16, color=2)
    assert load_gray(whole, 1, 2).ravel().tolist() == [42, 195]


def test_lost_block_is_refused_wherever_it_is() -> None:
    data = encode(Image.fromarray(NOISE), "PNG")
    for at in range(60, len(data) - 4096, 3001):
        for lost in (bytes(4096), b"\xff" * 4096, data[at - 50 : at - 50 + 4096]):
            with pytest.raises(DataError, match="damaged: the checksum of its IDAT at byte 33 is wrong"):
                load_gray(data[:at] + lost + data[at + 4096 :], 300, 300)
        with pytest.raises(DataError, match="<bytes>"):
            load_gray(data[:at] + bytes(len(data) - at), 300, 300)


def test_text_may_be_damaged_and_the_end_may_be_missing() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment", zip=False)
    data = encode(Image.fromarray(NOISE), "PNG", pnginfo=text)
    check_png(io.BytesIO(data.replace(b"a comment", b"A comment")), "x")
    assert np.array_equal(load_gray(data[:-12], 300, 300)[:, :, 0], NOISE)
