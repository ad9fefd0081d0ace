"""Sources that edgecls.images.decode must refuse: with one kind of error, in bounded time and memory."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FORMATS, GRAY, RGB, SEEDS, encode, png, repair_png_checksums, tiff
from numpy.typing import NDArray
from PIL import Image, features

from edgecls.errors import ConfigError, DataError
from edgecls.images import opening
from edgecls.images.decode import load_gray
from edgecls.limits import MAX_FILE_BYTES, MAX_IMAGE_SIZE, MAX_SIDE

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
    with pytest.raises(DataError, match=r"more than one frame; pass one frame as a Pillow image: image\.copy"):
        load_gray(image, 4, 4)
    if image_format != "GIF":
        with pytest.raises(DataError, match="<bytes> has more than one frame; save one of them as a file"):
            load_gray(data, 4, 4)
    assert load_gray(image.copy(), 4, 4).shape == (4, 4, 1)


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8), (8, MAX_IMAGE_SIZE + 1)])
def test_wanted_size_out_of_range(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"must be 1 to {MAX_IMAGE_SIZE}; received {size[0]} x {size[1]}"):
        load_gray(GRAY, *size)


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

    monkeypatch.setattr(opening, "_choose_decoder", lambda *_: refuse)
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
        with pytest.raises(DataError, match=r"image .*cut\.img (\(\w+: .*\)|is damaged: .*); replace or remove it"):
            load_gray(path, 4, 4)


def assert_array_or_data_error(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = load_gray(data, 3, 5)
        except DataError as error:
            assert "<bytes>" in str(error)
        else:
            assert pixels.shape == (3, 5, 1) and pixels.dtype == np.uint8


@settings(max_examples=300)
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


@settings(max_examples=200)
@given(magic=st.sampled_from(MAGICS), tail=st.binary(max_size=200))
def test_random_bytes_give_an_array_or_data_error(magic: bytes, tail: bytes) -> None:
    assert_array_or_data_error(magic + tail)


def test_warnings_turned_into_errors_become_data_errors() -> None:
    data = png(2, 1, (b"acTL", bytes(8)), (b"IDAT", zlib.compress(b"\0\1\2")))  # Pillow warns: invalid APNG
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="Warning"):
            load_gray(data, 1, 2)
