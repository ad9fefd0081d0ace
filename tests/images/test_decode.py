"""Tests of edgecls.images.decode: expected pixels are computed here with numpy, not by the code under test."""

from __future__ import annotations

import io
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from image_files import FORMATS, GRAY, LEVELS_16, LOSSLESS, RGB, TURNS, encode, luma, on_black, png
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError
from edgecls.images import decode as decode_module
from edgecls.images.decode import load_gray
from edgecls.limits import MAX_SIDE


def load_same_size(source: decode_module.Source, like: NDArray[Any]) -> NDArray[np.uint8]:
    pixels = load_gray(source, *like.shape[:2])
    assert pixels.dtype == np.uint8 and pixels.shape == (*like.shape[:2], 1)
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    return pixels[:, :, 0]


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
def test_transparent_color_of_png_becomes_black(
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


def test_mode_f_beyond_1_counts_as_0_to_255() -> None:
    image = Image.fromarray(np.array([[0.0, 0.4, 1.0, 254.6, 255.0]], np.float32))
    for source in (image, encode(image, "TIFF")):
        assert load_gray(source, 1, 5).ravel().tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("value", [-0.5, 255.5, float("nan"), float("inf"), -float("inf")])
def test_mode_f_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"<image> of floats has values from .* expected 0 to 1, or 0 to 255"):
        load_gray(Image.fromarray(np.array([[7, value]], np.float32)), 1, 2)


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
    np.testing.assert_array_equal(load_gray(path, 5, 4), expected)
    np.testing.assert_array_equal(load_gray(str(path), 5, 4), expected)
    with Image.open(path) as image:
        decoded = load_gray(np.array(image), 5, 4)
        np.testing.assert_array_equal(load_gray(image, 5, 4), decoded)
    assert np.abs(decoded.astype(int) - expected).max() <= (3 if image_format == "JPEG" else 0)


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


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize(("height", "width"), [(50, 60), (31, 21), (10, 7)])
def test_resize_below_a_fourfold_is_pillows_own(channels: tuple[int, ...], height: int, width: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (39, 27, *channels), dtype=np.uint8)
    gray = luma(array) if channels == (3,) else array.reshape(39, 27)
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


def test_phone_jpeg_with_an_attached_preview_is_read() -> None:
    image = Image.fromarray(RGB)
    data = encode(image, "MPO", save_all=True, append_images=[image.resize((4, 4))])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
        expected = luma(np.array(opened))
        np.testing.assert_array_equal(load_same_size(opened, RGB), expected)
    # The file's own luma, where Pillow goes through colors and back.
    assert np.abs(load_same_size(data, RGB).astype(int) - expected).max() <= 3


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
