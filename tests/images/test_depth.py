"""Tests of edgecls.images.depth: which value is white, and what is said of a folder of deep images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encode
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import ConfigError, DataError
from edgecls.images.dataset import load_dataset, load_labeled, load_paths
from edgecls.images.decode import load_gray
from edgecls.images.depth import Scale, advise
from edgecls.preprocessing import Preprocessing

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def gray_of(source: Any, like: NDArray[Any], bits: int | None = None) -> NDArray[np.uint8]:
    return load_gray(source, like.shape[0], like.shape[1], Preprocessing(bits))[:, :, 0]


# Floats


@pytest.mark.parametrize("wrap", [lambda image: image, lambda image: encode(image, "TIFF")])
def test_floats_within_0_to_1_have_1_as_white(wrap: Any) -> None:
    values = np.array([[0.0, 0.1, 0.25, 0.5, 1.0]], np.float32)
    assert gray_of(wrap(Image.fromarray(values)), values).tolist() == [[0, 26, 64, 128, 255]]
    dim = values / 2
    assert gray_of(wrap(Image.fromarray(dim)), dim).tolist() == [[0, 13, 32, 64, 128]]


def test_floats_all_zero_are_black() -> None:
    assert not gray_of(Image.fromarray(np.zeros((2, 2), np.float32)), np.zeros((2, 2))).any()


@pytest.mark.parametrize("high", [1.02, 2.0, 15.9])
def test_floats_just_beyond_1_are_refused_and_not_black(high: float) -> None:
    values = np.array([[0, high]], np.float32)
    with pytest.raises(DataError, match=rf"of floats has values from 0 to {high:.4g}; expected 0 to 1, or 0 to 255"):
        gray_of(Image.fromarray(values), values)


# Bits


@pytest.mark.parametrize("bits", [12, 13, 16, None])
@pytest.mark.parametrize(
    "source", [RAMP, RAMP[:, :, None], RAMP.astype(">u2"), Image.fromarray(RAMP), encode(Image.fromarray(RAMP), "PNG")]
)
def test_bits_say_what_is_white_where_the_file_does_not(source: Any, bits: int | None) -> None:
    white = 2 ** (bits or 16) - 1
    np.testing.assert_array_equal(gray_of(source, RAMP, bits), np.rint(RAMP.astype(float) * 255 / white))


def test_bits_leave_8_bit_files_and_stated_depths_alone() -> None:
    small = (RAMP // 16).astype(np.uint8)
    np.testing.assert_array_equal(gray_of(encode(Image.fromarray(small), "PNG"), RAMP, 10), small)
    stated = b"P5 64 64 4095\n" + RAMP.astype(">u2").tobytes()
    np.testing.assert_array_equal(gray_of(stated, RAMP, 10), gray_of(RAMP, RAMP, 12))
    plain = b"P2 2 1 1000\n500 1000\n"
    assert load_gray(plain, 1, 2, Preprocessing(9)).ravel().tolist() == [128, 255]


def test_bits_apply_to_a_pgm_whose_maxval_says_nothing() -> None:
    unstated = b"P5 64 64 65535\n" + RAMP.astype(">u2").tobytes()
    np.testing.assert_array_equal(gray_of(unstated, RAMP, 12), gray_of(RAMP, RAMP, 12))


def test_values_above_the_bits_are_refused() -> None:
    with pytest.raises(DataError, match="values from 0 to 4095; expected 0 to 1023: give the right number of bits"):
        gray_of(RAMP, RAMP, 10)


@pytest.mark.parametrize("bits", [0, 7, 17])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"bits must be 8 to 16; received {bits}"):
        gray_of(RAMP, RAMP, bits)


def test_bits_cannot_scale_16_bit_color() -> None:
    ppm = b"P6 2 1 65535\n" + np.arange(6, dtype=">u2").tobytes()
    assert load_gray(ppm, 1, 2).ravel().tolist() == [0, 0]
    with pytest.raises(DataError, match="16-bit picture of mode RGB.*with 12 bits used.*save it as 16-bit gray"):
        load_gray(ppm, 1, 2, Preprocessing(12))


@pytest.mark.parametrize("source", [bytearray, memoryview, bytes])
def test_any_kind_of_bytes_is_read(source: Any) -> None:
    small = (RAMP // 16).astype(np.uint8)
    np.testing.assert_array_equal(gray_of(source(encode(Image.fromarray(small), "PNG")), RAMP), small)


# Folders


@pytest.mark.parametrize(("largest", "bits"), [(255, 8), (1023, 10), (900, 10), (4095, 12), (16000, 14)])
def test_folder_that_never_uses_its_upper_bits_is_reported_the_option(largest: int, bits: int) -> None:
    scales = [Scale(65535, largest, False), Scale(65535, 100, False), Scale(65535, 0, False)]
    (text,) = advise(scales, "--bits")
    assert f"No value of the 2 16-bit images is above {largest}" in text and f"train again with --bits {bits}." in text


@pytest.mark.parametrize(
    "scales",
    [
        [],
        [Scale(65535, 0, False)],
        [Scale(65535, 4095, False), Scale(65535, 17000, False)],
        [Scale(4095, 4095, True), Scale(65535, 4000, True)],
        [Scale(1, 1, False), Scale(1, 0.5, False)],
        [Scale(255, 200, False)],
    ],
)
def test_nothing_is_said_of_what_is_clear(scales: list[Scale]) -> None:
    assert advise(scales, "--bits") == ()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_contrast_that_is_lost_in_8_bits_is_told(form: str) -> None:
    scales: list[Scale] = []
    pixels = (RAMP // 16 + 30000).astype(np.uint16)
    assert len(np.unique(load_gray(encode(Image.fromarray(pixels), form), 64, 64, scales=scales))) == 2
    scales += [Scale(1, 0.52, False, 5.1), Scale(4095, 2100, True, 6.2)]
    (text,) = advise(scales, "--bits")
    assert text.startswith(
        "The values of 3 images of more than 8 bits span few of 255 gray levels (nine of ten at most 6.0)"
    )
    # Most images of a folder decide, not a single pale one.
    assert advise([*scales, *[Scale(65535, 65535, False)] * 3], "--bits") == ()
    # A pale picture of 8 bits loses nothing.
    pale: list[Scale] = []
    load_gray(encode(Image.fromarray((RAMP % 5 + 100) * 257), form), 64, 64, scales=pale)
    assert advise(pale, "--bits") == ()


def test_folder_of_two_float_ranges_is_named() -> None:
    (text,) = advise([Scale(1, 0.8, False), Scale(255, 200, False), Scale(255, 90, False)], "--bits")
    assert text.startswith("1 float images lie within 0 to 1") and "2 go up to 255" in text


def test_bits_reach_every_image_of_a_dataset(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = np.full((8, 8), 1000 * number + 95, np.uint16)
            (tmp_path / name / f"{number}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
    options: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    plain = load_dataset(tmp_path, 8, **options)
    scaled = load_dataset(tmp_path, 8, preprocessing=Preprocessing(12), **options)
    assert plain.train.images.max() <= 12 < scaled.train.images.max()
    assert len(plain.scales) == len(scaled.scales) == 8
    assert "--bits 12" in advise(plain.scales, "--bits")[0] and advise(scaled.scales, "--bits") == ()
    whole = load_labeled(tmp_path, ["cat", "dog"], 8, 8, preprocessing=Preprocessing(12))
    chosen = load_paths(tmp_path, ["cat/3.png"], [0], 8, 8, preprocessing=Preprocessing(12))
    assert whole.images.max() == chosen.images.max() == round(3095 * 255 / 4095)
