"""Tests of edgecls.image: expected pixels are computed here with numpy, not by the code under test."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from edgecls import image as image_module
from edgecls.config import MAX_IMAGE_SIZE
from edgecls.errors import ConfigError, DataError
from edgecls.image import MAX_FILE_BYTES, MAX_SIDE, load_gray

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


def load_same_size(source: image_module.Source, like: NDArray[Any]) -> NDArray[np.uint8]:
    pixels = load_gray(source, *like.shape[:2])
    assert pixels.dtype == np.uint8 and pixels.shape == (*like.shape[:2], 1)
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    return pixels[:, :, 0]


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


# Formats and modes


@pytest.mark.parametrize(("image_format", "options"), LOSSLESS)
def test_rgb_of_every_lossless_format_is_luma(image_format: str, options: dict[str, Any]) -> None:
    data = encode(Image.fromarray(RGB), image_format, **options)
    np.testing.assert_array_equal(load_same_size(data, RGB), luma(RGB))


@pytest.mark.parametrize(("image_format", "options"), LOSSLESS)
def test_gray_of_every_lossless_format_is_unchanged(image_format: str, options: dict[str, Any]) -> None:
    data = encode(Image.fromarray(GRAY), image_format, **options)
    np.testing.assert_array_equal(load_same_size(data, GRAY), GRAY)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_the_decoded_picture_in_luma(mode: str) -> None:
    smooth = np.broadcast_to(np.arange(0, 240, 5, dtype=np.uint8), (16, 48))
    data = encode(Image.fromarray(smooth).convert("RGB").convert(mode), "JPEG", quality=100)
    assert np.abs(load_same_size(data, smooth).astype(int) - smooth).max() <= 3  # JPEG's own loss


def test_every_8_bit_mode_has_exact_values() -> None:
    rgb = Image.fromarray(RGB)
    alpha = Image.fromarray(RGB[:, :, 1])
    bits = (GRAY > 127).astype(np.uint8) * 255
    palette = Image.fromarray(GRAY % 4)
    palette.putpalette([10, 20, 30, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    colors = np.array([[10, 20, 30], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    gray_alpha, rgb_alpha = Image.fromarray(GRAY), rgb.copy()
    gray_alpha.putalpha(alpha)
    rgb_alpha.putalpha(alpha)
    cases = {
        "1": (Image.fromarray(bits).convert("1"), bits),
        "L": (Image.fromarray(GRAY), GRAY),
        "LA": (gray_alpha, on_black(GRAY, RGB[:, :, 1])),
        "P": (palette, luma(colors[GRAY % 4])),
        "RGB": (rgb, luma(RGB)),
        "RGBA": (rgb_alpha, on_black(luma(RGB), RGB[:, :, 1])),
        "RGBX": (rgb.convert("RGBX"), luma(RGB)),
        "CMYK": (rgb.convert("CMYK"), luma(RGB)),
    }
    for mode, (image, expected) in cases.items():
        assert image.mode == mode
        np.testing.assert_array_equal(load_same_size(image, GRAY), expected, err_msg=mode)
        if mode not in ("RGBX", "CMYK"):
            np.testing.assert_array_equal(load_same_size(encode(image, "PNG"), GRAY), expected, err_msg=mode)
        if mode != "RGBX":
            np.testing.assert_array_equal(load_same_size(encode(image, "TIFF"), GRAY), expected, err_msg=mode)


def test_webp_alpha_is_composed_on_black() -> None:
    rgba = np.dstack([RGB, RGB[:, :, 1]])
    data = encode(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(load_same_size(data, GRAY), on_black(luma(RGB), RGB[:, :, 1]))


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128, 64])])
def test_transparent_palette_entries_are_composed_on_black(transparency: int | bytes) -> None:
    palette = Image.fromarray(GRAY % 4)
    palette.putpalette([200, 200, 200, 90, 90, 90, 40, 40, 40, 255, 255, 255])
    alphas = [255, 0, 255, 255] if isinstance(transparency, int) else list(transparency)
    expected = on_black(np.array([200, 90, 40, 255], np.uint8), np.array(alphas, np.uint8))[GRAY % 4]
    data = encode(palette, "PNG", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_same_size(data, GRAY), expected)


@pytest.mark.parametrize(
    ("color", "depth", "row", "key", "expected"),
    [
        (0, 8, b"\x80\xff", b"\x00\xff", [128, 0]),
        (0, 16, b"\x80\x80\xff\xff", b"\xff\xff", [128, 0]),
        (2, 8, b"\x05\x05\x05\x09\x09\x09", b"\0\x05\0\x05\0\x05", [0, 9]),
    ],
)
def test_transparent_colour_of_png_becomes_black(
    color: int, depth: int, row: bytes, key: bytes, expected: list[int]
) -> None:
    data = png(2, 1, (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), depth=depth, color=color)
    assert load_gray(data, 1, 2).ravel().tolist() == expected


# Deep gray


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_files_use_the_full_range(image_format: str) -> None:
    image = Image.fromarray(LEVELS_16)
    if image_format == "PPM":
        data = b"P5 9 1 65535\n" + LEVELS_16.astype(">u2").tobytes()
    else:
        data = encode(image, image_format)
    expected = [0, 0, 0, 1, 1, 1, 128, 255, 255]
    assert load_gray(data, 1, 9).ravel().tolist() == expected


def test_every_16_bit_value_is_rounded_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(values / 257 + 0.5)
    for source in (
        values,
        values.astype(">u2"),
        Image.fromarray(values),
        Image.fromarray(values.astype(">u2")),
        Image.fromarray(values.astype(np.int32)),
    ):
        np.testing.assert_array_equal(load_same_size(source, values), expected)


def test_big_endian_16_bit_tiff() -> None:
    data = encode(Image.fromarray(LEVELS_16.astype(">u2")), "TIFF")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "I;16B"
    assert load_gray(data, 1, 9).ravel().tolist() == [0, 0, 0, 1, 1, 1, 128, 255, 255]


def test_mode_i_counts_as_16_bits_whatever_it_holds() -> None:
    assert load_gray(Image.fromarray(np.array([[0, 255]], np.int32)), 1, 2).ravel().tolist() == [0, 1]


@pytest.mark.parametrize("value", [-1, 65536])
def test_mode_i_outside_16_bits_names_the_range(value: int) -> None:
    image = Image.fromarray(np.array([[7, value]], np.int32))
    low, high = sorted((7, value))
    for source in (image, encode(image, "TIFF")):
        with pytest.raises(DataError, match=f"values from {low} to {high}; expected 0 to 65535"):
            load_gray(source, 1, 2)


def test_mode_f_counts_as_0_to_255_whatever_it_holds() -> None:
    image = Image.fromarray(np.array([[0.0, 0.4, 1.0, 254.6, 255.0]], np.float32))
    for source in (image, encode(image, "TIFF")):
        assert load_gray(source, 1, 5).ravel().tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("value", [-0.5, 255.5, float("nan"), float("inf"), -float("inf")])
def test_mode_f_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"<image> of mode F has values from .* expected 0 to 255"):
        load_gray(Image.fromarray(np.array([[7, value]], np.float32)), 1, 2)


@pytest.mark.parametrize("tags", [{258: 16, 262: 0}, {258: 12, 262: 1}])
def test_tiff_that_pillow_would_scale_wrongly_is_refused(tags: dict[int, int]) -> None:
    with pytest.raises(DataError, match="Pillow does not scale"):
        load_gray(tiff(tags, bytes(16)), 1, 8)
    assert load_gray(tiff({258: 16}, b"\xff\xff" * 8), 1, 8).ravel().tolist() == [255] * 8


# Orientation


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(image_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    image = Image.fromarray(np.kron(GRAY, np.ones((8, 8), np.uint8)))
    plain = load_same_size(encode(image, image_format, **options), np.array(image))
    upright = TURNS[orientation](plain)
    data = encode(image, image_format, exif=exif, **options)
    np.testing.assert_array_equal(load_same_size(data, upright), upright)
    np.testing.assert_array_equal(load_same_size(Image.open(io.BytesIO(data)), upright), upright)


# Sources and size


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_path_bytes_and_image_give_identical_bytes(image_format: str, options: dict[str, Any], tmp_path: Path) -> None:
    data = encode(Image.fromarray(RGB), image_format, **options)
    path = tmp_path / "picture.of.any.name"
    path.write_bytes(data)
    expected = load_gray(data, 5, 4)
    with Image.open(path) as image:
        decoded = np.array(image)
        for source in (path, str(path), image, decoded):
            np.testing.assert_array_equal(load_gray(source, 5, 4), expected)


def test_arrays_of_every_accepted_shape_and_stride() -> None:
    np.testing.assert_array_equal(load_same_size(GRAY, GRAY), GRAY)
    np.testing.assert_array_equal(load_same_size(GRAY[:, :, np.newaxis], GRAY), GRAY)
    np.testing.assert_array_equal(load_same_size(RGB, GRAY), luma(RGB))
    np.testing.assert_array_equal(load_same_size(RGB[::-1, ::2], RGB[:, ::2]), luma(RGB[::-1, ::2]))
    np.testing.assert_array_equal(load_same_size(np.asfortranarray(RGB), GRAY), luma(RGB))


def test_result_is_a_copy_of_an_array() -> None:
    source = GRAY.copy()
    load_gray(source, *GRAY.shape)[:] = 0
    np.testing.assert_array_equal(source, GRAY)


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    channels=st.sampled_from([(), (1,), (3,)]),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_resize_is_pillows_own(rows: int, columns: int, channels: tuple[int, ...], height: int, width: int) -> None:
    array = np.random.default_rng(rows * 41 + columns).integers(0, 256, (rows, columns, *channels), dtype=np.uint8)
    gray = luma(array) if channels == (3,) else array.reshape(rows, columns)
    expected = Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR)
    pixels = load_gray(array, height, width)
    assert pixels.shape == (height, width, 1) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[:, :, 0], np.array(expected))


def test_shrinking_antialiases() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(load_gray(stripes, 8, 8).astype(int) - 128).max() <= 8


@pytest.mark.parametrize("shape", [(1, MAX_SIDE), (MAX_SIDE, 1)])
def test_extreme_aspect_ratio(shape: tuple[int, int]) -> None:
    assert (load_gray(np.full(shape, 9, np.uint8), 224, 224) == 9).all()


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8), (8, MAX_IMAGE_SIZE + 1)])
def test_wanted_size_out_of_range(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"must be 1 to {MAX_IMAGE_SIZE}; received {size[0]} x {size[1]}"):
        load_gray(GRAY, *size)


# Refused sources


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), object),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 1), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_array_of_another_kind_says_what_came_and_what_is_accepted(array: NDArray[Any]) -> None:
    received = f"{array.dtype} {array.shape}".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(DataError, match=rf"<array> {received}; accepted are uint8 \(H, W\)"):
        load_gray(array, 4, 4)


@pytest.mark.parametrize("source", [None, 3, 1.5, [[1, 2]], io.BytesIO(b"x")])
def test_source_of_another_type_is_named(source: Any) -> None:
    with pytest.raises(DataError, match=f"cannot read an image from {type(source).__name__}; pass a path"):
        load_gray(source, 4, 4)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    with pytest.raises(DataError, match="missing.png: No such file"):
        load_gray(missing, 4, 4)
    with pytest.raises(DataError, match="it is a folder"):
        load_gray(tmp_path, 4, 4)
    with pytest.raises(DataError, match="null"):
        load_gray("a\0b.png", 4, 4)
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="pipe.png: it is not a regular file"):
        load_gray(pipe, 4, 4)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(Image.fromarray(GRAY), "PNG"))

    def refuse(*_: Any) -> None:  # root, which CI often is, may read a file of mode 000
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="secret.png: Permission denied; check the path and its permissions"):
        load_gray(path, 4, 4)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.webp"
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBPVP8 ")
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(DataError, match=f"huge.webp has {MAX_FILE_BYTES + 1} bytes; at most {MAX_FILE_BYTES}"):
        load_gray(path, 4, 4)


@pytest.mark.parametrize(
    "data",
    [b"hello", encode(Image.fromarray(GRAY), "GIF"), encode(Image.fromarray(GRAY), "ICO"), b"P", b"RIFF", b"%!PS"],
)
def test_other_formats_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "named.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match="named.png is not a PNG, JPEG, BMP, TIFF, PPM/PGM or WebP image"):
        load_gray(path, 4, 4)
    with pytest.raises(DataError, match="<bytes> is not a PNG"):
        load_gray(data, 4, 4)


def test_empty_file_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "nothing.jpg"
    path.touch()
    for source, name in ((path, "nothing.jpg"), (b"", "<bytes>")):
        with pytest.raises(DataError, match=f"{name} is empty"):
            load_gray(source, 4, 4)


@pytest.mark.parametrize("mode", ["HSV", "LAB", "La", "RGBa"])
def test_modes_without_a_luma_rule_are_refused(mode: str) -> None:
    with pytest.raises(DataError, match=f"mode '{mode}'; accepted are 1, L"):
        load_gray(Image.new(mode, (4, 4)), 4, 4)


def test_image_without_pixels_or_already_closed() -> None:
    with pytest.raises(DataError, match="<image> has no pixels"):
        load_gray(Image.new("L", (0, 4)), 4, 4)
    image = Image.open(io.BytesIO(encode(Image.fromarray(GRAY), "PNG")))
    image.close()
    with pytest.raises(DataError, match="cannot decode image <image>"):
        load_gray(image, 4, 4)


def test_webp_missing_from_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(RGB), "WEBP")
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    with pytest.raises(DataError, match="built without WebP; convert the image to PNG"):
        load_gray(data, 4, 4)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_several_frames_are_refused_and_one_of_them_is_not(image_format: str) -> None:
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
    image = Image.open(io.BytesIO(data))
    for source in (image,) if image_format == "GIF" else (image, data):
        with pytest.raises(DataError, match=r"more than one frame; pass one frame as a Pillow image: image\.copy"):
            load_gray(source, 4, 4)
    assert load_gray(image.copy(), 4, 4).shape == (4, 4, 1)


def test_phone_jpeg_with_an_attached_preview_is_read() -> None:
    image = Image.fromarray(RGB)
    data = encode(image, "MPO", save_all=True, append_images=[image.resize((4, 4))])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
        expected = luma(np.array(opened))
        np.testing.assert_array_equal(load_same_size(opened, RGB), expected)
    np.testing.assert_array_equal(load_same_size(data, RGB), expected)


# Bombs


@pytest.mark.parametrize(
    "data",
    [
        png(250_000, 250_000, (b"IDAT", zlib.compress(b""))),
        png(10_000, 10_000, (b"IDAT", zlib.compress(b""))),  # where Pillow would only warn
        b"P5 250000 250000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 8, 0, 0, 0, 0, 0, 0),
        tiff({256: 250_000, 257: 250_000}, b"\0"),
        tiff({259: 8, 322: 60_000, 323: 60_000}, zlib.compress(bytes(1000))),
        png(1, MAX_SIDE + 1, (b"IDAT", zlib.compress(b""))),
    ],
    ids=["png", "png100M", "pgm", "bmp", "tiff", "tiff_tile", "png_thin"],
)
def test_bomb_is_refused_in_bounded_time_and_memory(data: bytes) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(DataError, match=rf"pixels; at most {MAX_SIDE} a side and \d+ in all"):
                load_gray(data, 224, 224)
        assert not caught
        assert time.perf_counter() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_limit_holds_for_images_and_arrays_too() -> None:
    thin = np.zeros((1, MAX_SIDE + 1), np.uint8)
    for source, name in ((thin, "<array>"), (Image.fromarray(thin), "<image>")):
        with pytest.raises(DataError, match=f"image {name} has {MAX_SIDE + 1} x 1 pixels"):
            load_gray(source, 4, 4)


def test_pillows_own_limit_is_left_alone() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    load_gray(encode(Image.fromarray(RGB), "WEBP"), 4, 4)
    assert limit == Image.MAX_IMAGE_PIXELS


# Damage


@pytest.mark.parametrize(
    "kind",
    [
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        ZeroDivisionError,
        OverflowError,
        AssertionError,
    ]
    + [AttributeError, EOFError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError, UserWarning],
)
def test_whatever_pillow_raises_is_named(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise kind("broken")

    monkeypatch.setattr(image_module, "_choose_decoder", lambda *_: refuse)
    with pytest.raises(DataError, match=rf"cannot decode image <bytes> \({kind.__name__}: .*broken.*\); replace"):
        load_gray(b"any", 4, 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_truncated_files_name_file_and_cause(image_format: str, options: dict[str, Any], tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), image_format, **options)
    path = tmp_path / "cut.img"
    for length in (3 * len(data) // 4, len(data) // 2, 20):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cannot decode image .*cut\.img \(\w+: .*\); replace or remove it"):
            load_gray(path, 4, 4)


SEEDS = tuple(
    encode(Image.fromarray(RGB), image_format, exif=exif, **options) if image_format != "PPM" else b"P5 2 2 255\n1234"
    for image_format, options in FORMATS
    for exif in (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",)
) + (
    encode(Image.fromarray(LEVELS_16), "PNG"),
    encode(Image.fromarray(RGB).quantize(8), "PNG", transparency=bytes(8)),
    encode(Image.fromarray(GRAY).convert("1"), "TIFF", compression="group4"),
)


def assert_array_or_data_error(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = load_gray(data, 3, 5)
        except DataError as error:
            assert "<bytes>" in str(error)
        else:
            assert pixels.shape == (3, 5, 1) and pixels.dtype == np.uint8


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


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5),
    keep=st.floats(0, 1) | st.just(1.0),
    repair=st.booleans(),
)
def test_damaged_files_give_an_array_or_data_error(
    seed: bytes, flips: list[tuple[int, int]], keep: float, repair: bool
) -> None:
    data = bytearray(seed)
    for position, value in flips:
        data[position % len(data)] = value
    damaged = repair_png_checksums(bytes(data)) if repair and seed[:4] == b"\x89PNG" else bytes(data)
    assert_array_or_data_error(damaged[: int(len(damaged) * keep)])


MAGICS = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P2 ",
    b"P5 ",
    b"RIFF\0\0\0\0WEBPVP8 ",
)


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from(MAGICS), tail=st.binary(max_size=200))
def test_random_bytes_give_an_array_or_data_error(magic: bytes, tail: bytes) -> None:
    assert_array_or_data_error(magic + tail)


def test_warnings_turned_into_errors_become_data_errors() -> None:
    data = png(2, 1, (b"acTL", bytes(8)), (b"IDAT", zlib.compress(b"\0\1\2")))  # Pillow warns: invalid APNG
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="Warning"):
            load_gray(data, 1, 2)


# Files and threads


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_files_are_closed_after_success_and_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
    good.write_bytes(encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"))
    bad.write_bytes(good.read_bytes()[:60])
    handles: list[IO[bytes]] = []

    def recorded_open(path: Path, mode: str) -> IO[bytes]:
        handles.append(io.FileIO(path, mode))
        return handles[-1]

    monkeypatch.setattr(Path, "open", recorded_open)
    load_gray(good, 4, 4)
    with pytest.raises(DataError):
        load_gray(bad, 4, 4)
    assert [handle.closed for handle in handles] == [True, True]


def test_eight_threads_get_identical_bytes(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (120, 90, 3), dtype=np.uint8))
    paths = []
    for number, (image_format, options) in enumerate(FORMATS):
        paths.append(tmp_path / str(number))
        noise.save(paths[-1], image_format, **options)
    expected = [load_gray(path, 32, 32).tobytes() for path in paths]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda path: load_gray(path, 32, 32).tobytes(), paths * 20))
    assert results == expected * 20
