"""Tests of edgecls.images.tiff: forms that Pillow reads wrongly are read rightly or refused in words."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import encode, luma, tiff
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray, load_gray

RGB = np.random.default_rng(3).integers(0, 256, (40, 24, 3), dtype=np.uint8)
GRAY = RGB[:, :, 1]
REFUSED = "is a TIFF of a form that is not read: .*; save it as 8-bit gray or RGB, or as 16-bit gray"


def write(pixels: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return file.getvalue()


def gray_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode_gray(data))


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize(("photometric", "extra"), [("rgb", None), ("rgb", [2]), ("separated", None)])
def test_16_bit_planes_apart_are_refused_in_words(
    photometric: str, extra: list[int] | None, compression: str | None, layout: dict[str, Any]
) -> None:
    channels = 3 if photometric == "rgb" and not extra else 4
    pixels = np.random.default_rng(0).integers(0, 65536, (channels, 40, 24), dtype=np.uint16)
    options = {"photometric": photometric, "extrasamples": extra, "compression": compression, **layout}
    with pytest.raises(DataError, match=f"{channels} unsigned samples of 16 bits, .*planes apart.*magick"):
        load_gray(write(pixels, planarconfig="separate", **options), 4, 4)


def test_8_bit_planes_apart_and_16_bit_samples_together_are_read() -> None:
    apart = write(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(gray_of(apart), luma(RGB))
    np.testing.assert_array_equal(gray_of(write(RGB.astype(np.uint16) * 257, photometric="rgb")), luma(RGB))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "i2", "i4", "u2"])
def test_byte_order_of_deep_gray_is_right(kind: str, order: str, compression: str | None) -> None:
    pixels = GRAY.astype(kind) * (1 if kind == "f4" else 100)
    expected = GRAY if kind == "f4" else np.rint(pixels / 257)
    np.testing.assert_array_equal(gray_of(write(pixels, byteorder=order, compression=compression)), expected)


def test_picture_that_pillow_has_loaded_with_swapped_bytes_is_refused() -> None:
    data = write(GRAY.astype("f4"), byteorder=">", compression="lzw")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(load_gray(image, *GRAY.shape)[:, :, 0], GRAY)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        with pytest.raises(DataError, match="loaded by Pillow, which swaps the bytes .*: pass the file"):
            load_gray(image, 4, 4)


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        ((GRAY.astype(int) - 128).astype("i1"), {}, "1 signed sample of 8 bits"),
        (GRAY / 255, {}, "1 float sample of 64 bits, gray, uncompressed"),
        ((GRAY / 255).astype("f2"), {}, "1 float sample of 16 bits"),
        (GRAY.astype("u4"), {"byteorder": ">"}, "1 unsigned sample of 32 bits"),
        (
            RGB[..., :2].astype("u2") * 257,
            {"extrasamples": [2]},
            r"2 unsigned samples of 16 bits, .*ExtraSamples \(2,\)",
        ),
        (GRAY.astype("u2") * 257, {"photometric": "miniswhite"}, "gray, white is zero"),
        (RGB[..., :2].transpose(2, 0, 1), {"planarconfig": "separate", "extrasamples": [2]}, "planes apart"),
        (
            RGB[..., :2].transpose(2, 0, 1),
            {"planarconfig": "separate", "extrasamples": [2], "compression": "lzw"},
            "planes apart",
        ),
        ((RGB / 255).astype("f4"), {"photometric": "rgb"}, "3 float samples of 32 bits, RGB"),
        (GRAY, {"compression": "jpeg2000"}, "compression 34712"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forms_that_pillow_cannot_read_are_named(pixels: NDArray[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=REFUSED) as caught:
        load_gray(write(pixels, **options), 4, 4)
    assert caught.match(words)


def test_header_that_leaves_black_or_white_open_is_refused() -> None:
    whole = tiff({}, bytes(range(8)))
    assert load_gray(whole, 1, 8).ravel().tolist() == list(range(8))
    # The tag of PhotometricInterpretation becomes one that nobody knows, in its place in the order.
    with pytest.raises(DataError, match="without PhotometricInterpretation"):
        load_gray(whole.replace(b"\x06\x01\x04\0", b"\x07\x01\x04\0"), 1, 8)


def test_white_is_zero_with_8_bits_is_turned_round() -> None:
    np.testing.assert_array_equal(gray_of(write(GRAY, photometric="miniswhite")), 255 - GRAY)


@pytest.mark.parametrize("top", [255, 65535])
def test_palette_of_8_or_16_bit_entries(top: int) -> None:
    table = np.arange(255, -1, -1, dtype=np.uint16)[np.newaxis].repeat(3, 0) * (top // 255)
    np.testing.assert_array_equal(gray_of(write(GRAY, photometric="palette", colormap=table)), 255 - GRAY)


def test_ycbcr_with_shared_color_is_refused_uncompressed() -> None:
    plain = encode(Image.fromarray(RGB).convert("YCbCr"), "TIFF")
    assert np.abs(gray_of(plain).astype(int) - luma(RGB)).max() <= 1
    shared = encode(Image.fromarray(RGB).convert("YCbCr"), "TIFF", tiffinfo={530: (2, 2)})
    with pytest.raises(DataError, match="YCbCr"):
        gray_of(shared)


# Pages


def write_pages(*pages: tuple[NDArray[np.uint8], int]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels, kind in pages:
            options = {"photometric": "mask"} if kind == 4 else {"photometric": "minisblack"}
            writer.write(pixels > 99 if kind == 4 else pixels, subfiletype=kind, metadata=None, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "pages",
    [
        ((GRAY, 0), (GRAY[::4, ::4], 1), (GRAY[::8, ::8], 1)),
        ((GRAY[::4, ::4], 1), (GRAY, 0)),
        ((GRAY, 0), (GRAY, 4)),
        ((GRAY, 1),),
    ],
)
def test_reduced_pages_and_masks_are_no_pages(pages: tuple[Any, ...]) -> None:
    np.testing.assert_array_equal(gray_of(write_pages(*pages)), GRAY)


@pytest.mark.parametrize("pages", [((GRAY, 0), (GRAY, 0)), ((GRAY, 1), (GRAY, 1)), ((GRAY, 0),) * 70])
def test_several_pages_are_refused_with_a_remedy_for_the_command_line(pages: Any, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(write_pages(*pages))
    with pytest.raises(DataError, match=r"scan\.tif has more than .*frame.*save one of them as a file"):
        load_gray(path, 4, 4)


def test_stack_that_shares_one_page_is_refused() -> None:
    stack = write(GRAY, description="ImageJ=1.54f\nimages=3\nslices=3\n")
    with pytest.raises(DataError, match="more than one frame"):
        load_gray(stack, 4, 4)
    single = write(GRAY, description="ImageJ=1.54f\nimages=1\n")
    np.testing.assert_array_equal(gray_of(single), GRAY)


def test_preview_of_a_camera_raw_file_is_not_taken_for_the_picture() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(GRAY[::4, ::4], subfiletype=1, photometric="minisblack", metadata=None, subifds=1)
        writer.write(GRAY, subfiletype=0, photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match="holds camera raw data"):
        load_gray(file.getvalue(), 4, 4)


def test_big_endian_bigtiff_is_named() -> None:
    with pytest.raises(DataError, match="big-endian BigTIFF"):
        load_gray(write(GRAY, bigtiff=True, byteorder=">"), 4, 4)
    np.testing.assert_array_equal(gray_of(write(GRAY, bigtiff=True, byteorder="<")), GRAY)


@pytest.mark.parametrize("tag", [34665, 34853, 330, 34675, 700, 33723, 34377, 282, 296])
@pytest.mark.parametrize("value", [0, 1, 7, 99_999, 2**32 - 1])
def test_metadata_that_cannot_be_read_costs_no_pixel(tag: int, value: int) -> None:
    """EXIF, GPS, further pages, color profile, XMP, IPTC, Photoshop's and resolutions."""
    assert load_gray(tiff({tag: value}, bytes(range(8))), 1, 8).ravel().tolist() == list(range(8))


def test_tags_that_are_cut_off_are_an_error_and_not_left_out() -> None:
    """Without the last tag, SampleFormat, signed samples would pass for unsigned ones."""
    whole = tiff({339: 2}, b"")
    file = bytes(8) + whole[8:]
    moved = b"II*\0" + (16).to_bytes(4, "little") + bytes(range(8)) + file[8:-4]
    moved = moved.replace((8 + 2 + 12 * 9 + 4).to_bytes(4, "little"), (8).to_bytes(4, "little"))
    with pytest.raises(DataError, match="1 signed sample"):
        load_gray(moved, 1, 8)
    with pytest.raises(DataError, match="its list of 9 tags is cut off"):
        load_gray(moved[:-12], 1, 8)


@pytest.mark.parametrize("tag", [258, 270])
def test_a_value_that_is_cut_off_is_damage_if_other_tags_follow(tag: int) -> None:
    """Pillow reads no tag after it: signed samples would pass for unsigned ones."""
    whole = tiff({tag: 99_999, 339: 2}, bytes(range(8)))
    damaged = whole.replace(struct.pack("<HHI", tag, 4, 1), struct.pack("<HHI", tag, 2, 100))
    with pytest.raises(DataError, match=f"the value of its tag {tag} is cut off"):
        load_gray(damaged, 1, 8)


# Depth


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_max_sample_value_of_a_whole_depth_is_white(bits: int) -> None:
    white = 2**bits - 1
    pixels = (GRAY.astype(np.uint32) * white // 255).astype(np.uint16)
    data = write(pixels, extratags=[(281, "H", 1, white, True)])
    np.testing.assert_array_equal(gray_of(data), np.floor(pixels.astype(float) * 255 / white + 0.5))


def test_max_sample_value_of_one_picture_is_no_depth() -> None:
    pixels = np.array([[0, 257, 2570, 3517]], np.uint16)
    assert gray_of(write(pixels, extratags=[(281, "H", 1, 3517, True)])).tolist() == [[0, 1, 10, 14]]


def test_value_above_the_stated_one_is_refused() -> None:
    pixels = np.array([[0, 5000]], np.uint16)
    with pytest.raises(DataError, match="values from 0 to 5000; expected 0 to 4095: give the right number of bits"):
        gray_of(write(pixels, extratags=[(281, "H", 1, 4095, True)]))


def test_12_bits_a_sample_are_read() -> None:
    values = [0, 0xFFF, 0x800, 0x010, 0, 0, 0, 0]
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(12, "big")
    assert load_gray(tiff({258: 12}, packed), 1, 8).ravel().tolist() == [0, 255, 128, 1, 0, 0, 0, 0]


def test_nothing_of_pillow_or_libtiff_reaches_stderr(tmp_path: Path) -> None:
    """In a process of its own, as pytest has warning filters of its own and libtiff writes past Python."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    damaged = bytearray(write(pixels, compression="zlib"))
    damaged[-600:-100] = bytes(500)
    (tmp_path / "damaged.tif").write_bytes(damaged)
    # A tag that points behind the end of the file: metadata, which no pixel needs.
    (tmp_path / "metadata.tif").write_bytes(write(pixels, description="x" * 300).replace(b"x" * 300, b""))
    (tmp_path / "cut.tif").write_bytes(encode(Image.fromarray(pixels), "TIFF", compression="tiff_lzw")[:-40])
    script = (
        "import sys; from edgecls.images.decode import load_gray; from edgecls.errors import DataError\n"
        "for path in sys.argv[1:]:\n"
        "    try: load_gray(path, 4, 4)\n"
        "    except DataError as error: print(error)\n"
    )
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert all(f"cannot decode image {tmp_path}/{name}.tif" in done.stdout for name in ("damaged", "cut"))
