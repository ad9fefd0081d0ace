"""Damaged JPEG files are refused, and no undamaged one is."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encode
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from edgecls.errors import DataError
from edgecls.images import jpeg
from edgecls.images.decode import decode_gray, load_gray

ENCODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimized": {"optimize": True},
    "full color": {"subsampling": 0},
    "restart each row": {"restart_marker_rows": 1},
    "restart each 3 blocks": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "progressive, restart": {"progressive": True, "restart_marker_rows": 1},
}


@pytest.fixture(autouse=True)
def large_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**24)  # Pillow cannot encode some small pictures without


def photograph(seed: int = 1, side: int = 360) -> Image.Image:
    """Return waves, an edge and noise, of three colors."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    planes = [128 + 70 * np.sin(x / (9 + 4 * i) + seed) * np.cos(y / 31) + 40 * (x + y > side) for i in range(3)]
    noisy = np.stack(planes, 2) + rng.normal(0, 12, (side, side, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


PHOTOGRAPH = photograph()


def encodings(picture: Image.Image = PHOTOGRAPH, quality: int = 90) -> dict[str, bytes]:
    return {name: encode(picture, "JPEG", quality=quality, **options) for name, options in ENCODINGS.items()}


def restart_positions(data: bytes) -> list[int]:
    scan = data.index(b"\xff\xda")
    return [at for at in range(scan, len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]


def flat_pictures() -> list[Image.Image]:
    """Return pictures whose encoded data repeat one byte, and others of few colors."""
    y, x = np.mgrid[:480, :640]
    grays = [np.full((480, 640), value) for value in (0, 127, 128, 255)]
    grays += [x // 4 % 256, y % 256, (x + y) // 8 % 256, (x // 8 + y // 8) % 2 * 255, x // 4 % 2 * 255, y % 2 * 255]
    grays += [np.where(y < 400, 255, (x * y) % 256), np.where(y > 80, 0, (x * y) % 256)]
    grays += [128 + 100 * np.cos((x + 0.5) * np.pi * k / 8) for k in (1, 3, 5)]
    pictures = [Image.fromarray(gray.astype(np.uint8)) for gray in grays]
    return pictures + [
        Image.merge("RGB", (each, each.transpose(Image.Transpose.ROTATE_180), each)) for each in pictures
    ]


@pytest.mark.parametrize("quality", [1, 75, 100])
def test_undamaged_files_decode_as_pillow_decodes_them(quality: int) -> None:
    for picture in (
        PHOTOGRAPH,
        PHOTOGRAPH.convert("L"),
        PHOTOGRAPH.crop((0, 0, 1, 1)),
        PHOTOGRAPH.crop((0, 0, 360, 3)),
    ):
        for data in encodings(picture, quality).values():
            for least in ((90, 90), (9999, 9999)):
                pillow, ours = JpegImageFile(io.BytesIO(data)), JpegImageFile(io.BytesIO(data))
                pillow.draft("L", least)
                ours.draft("L", least)
                assert np.array_equal(np.asarray(pillow), np.asarray(jpeg.load(ours, "x")))


@pytest.mark.parametrize("quality", [50, 98])
def test_flat_pictures_are_never_refused(quality: int) -> None:
    for picture in flat_pictures():
        for data in encodings(picture, quality).values():
            load_gray(data, 224, 224)


def test_cmyk_is_read_as_pillow_reads_it() -> None:
    data = encode(PHOTOGRAPH.convert("CMYK"), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as pillow:
        assert np.array_equal(np.asarray(decode_gray(data)), np.asarray(pillow.convert("L")))


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "progressive" not in name])
@pytest.mark.parametrize("size", [512, 4096])
@pytest.mark.parametrize("byte", [0x00, 0x55, 0xFF])
def test_run_of_one_byte_is_named(encoding: str, size: int, byte: int) -> None:
    data = encodings()[encoding]
    for at in range(3000, len(data) - size, 7517):
        lost = data[:at] + bytes([byte]) * size + data[at + size :]
        with pytest.raises(DataError, match=r"image <bytes> is damaged: .*; replace or remove it") as refused:
            load_gray(lost, 224, 224)
        if byte == 0 and data[at - 1] and data[at + size]:
            assert f"{size} bytes of 0x00 in a row at byte {at}" in str(refused.value)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["zeros", "random", "another file", "missing", "cut", "cut and filled"])
def test_damage_is_refused(encoding: str, kind: str) -> None:
    data, other = encodings()[encoding], encodings(photograph(2), quality=70)[encoding]
    rng = random.Random(1)
    refused = 0
    for _ in range(20):
        at = rng.randrange(1000, len(data) - 5000)
        rest = data[at + 4096 :]
        damaged = {
            "zeros": data[:at] + bytes(4096) + rest,
            "random": data[:at] + rng.randbytes(4096) + rest,
            "another file": data[:at] + other[at // 2 : at // 2 + 4096] + rest,
            "missing": data[:at] + rest,
            "cut": data[:at],
            "cut and filled": data[:at] + bytes(len(data) - at),
        }[kind]
        try:
            load_gray(damaged, 224, 224)
        except DataError:
            refused += 1
    # By chance as many blocks as before; and zeros can be what a scan of a progressive file holds that adds one bit.
    assert refused >= (15 if "progressive" in encoding else 19)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_missing_end_marker_is_no_damage_but_missing_blocks_are(encoding: str) -> None:
    data = encodings()[encoding]
    whole = load_gray(data, 96, 96)
    assert np.array_equal(load_gray(data[:-2], 96, 96), whole)
    assert np.array_equal(load_gray(data[:-1], 96, 96), whole)
    for lost in (30, 100, 1000):
        with pytest.raises(DataError, match="is damaged"):
            load_gray(data[:-lost], 96, 96)


def test_progressive_file_that_lacks_its_last_scans_and_the_end_is_refused() -> None:
    data = encodings()["progressive"]
    with pytest.raises(DataError, match="ends before its last scan"):
        load_gray(data[: data.rindex(b"\xff\xda")], 96, 96)


@pytest.mark.parametrize("encoding", ["baseline", "restart each row", "progressive"])
def test_bytes_after_the_picture_are_no_damage(encoding: str) -> None:
    data = encodings()[encoding]
    whole = load_gray(data, 96, 96)
    for between, after in (
        (b"", bytes(5000)),
        (b"", b"\xff" * 5000),
        (b"", data),
        (bytes(5000), b""),
        (b"\xff" * 99, b""),
    ):
        assert np.array_equal(load_gray(data[:-2] + between + data[-2:] + after, 96, 96), whole)
    assert np.array_equal(load_gray(data[:-2] + b"abcd" + data[-2:], 96, 96), whole)
    with pytest.raises(DataError, match="goes on after its last block"):
        load_gray(data[:-2] + bytes(range(1, 200)) + data[-2:], 96, 96)


def test_restart_markers_have_to_be_there_in_order() -> None:
    data = encodings()["restart each 3 blocks"]
    markers = restart_positions(data)
    first, second, ninth = markers[0], markers[1], markers[8]
    with pytest.raises(DataError, match="restart marker 1 of"):
        load_gray(data[:first] + data[second:], 96, 96)
    with pytest.raises(DataError, match="is damaged"):  # a whole turn of eight: each number is right, but too few come
        load_gray(data[:first] + data[ninth:], 96, 96)


def test_zero_in_a_quantization_table_is_refused() -> None:
    data = encodings()["baseline"]
    at = data.index(b"\xff\xdb") + 10
    with pytest.raises(DataError, match="quantization table"):
        load_gray(data[:at] + bytes(30) + data[at + 30 :], 96, 96)


def test_motion_jpeg_frame_without_tables_is_read() -> None:
    data = encodings()["baseline"]
    frame = data
    while (at := frame.find(b"\xff\xc4")) > 0:
        frame = frame[:at] + frame[at + 2 + int.from_bytes(frame[at + 2 : at + 4], "big") :]
    assert np.array_equal(load_gray(frame + bytes(100), 96, 96), load_gray(data, 96, 96))
    with pytest.raises(DataError, match="4096 bytes of 0x00"):
        load_gray(frame[:6000] + b"\x01" + bytes(4096) + b"\x01" + frame[10098:], 96, 96)


def test_large_jpeg_is_decoded_small_and_refused_whole(tmp_path: Path) -> None:
    y, x = np.ogrid[:8200, :8200]
    path = tmp_path / "large.jpg"
    Image.fromarray(((x // 50 + y // 40) % 256).astype(np.uint8)).save(path, quality=80)
    assert load_gray(path, 224, 224).std() > 30
    with pytest.raises(DataError, match=r"large\.jpg has 8200 x 8200 pixels; at most 65535 a side and 67108864"):
        decode_gray(path)


def test_large_progressive_jpeg_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "MAX_PIXELS_SEVERAL_SCANS", 360 * 359)
    load_gray(encodings()["baseline"], 32, 32)
    with pytest.raises(DataError, match="360 x 360 pixels; at most 129240 of a progressive JPEG"):
        load_gray(encodings()["progressive"], 32, 32)
