"""TIFF files: finds the page with the picture, and corrects or refuses forms that Pillow decodes wrongly."""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from PIL import ImagePalette
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from edgecls.errors import DataError

# Tags, by their names in the TIFF 6.0 specification.
NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 254, 258, 259, 262
DESCRIPTION, SAMPLES_PER_PIXEL, PLANAR_CONFIGURATION, MAX_SAMPLE_VALUE = 270, 277, 284, 281
COLOR_MAP, TILE_WIDTH, TILE_LENGTH, SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT = 320, 322, 323, 330, 338, 339
YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE, IMAGE_DEPTH = 530, 532, 32997
# Bits of NewSubfileType: a smaller copy of another page, or a transparency mask.
REDUCED, MASK = 1, 4
# A pyramid of smaller copies has about 12.
MOST_PAGES = 64
WHITE_IS_ZERO, PALETTE, YCBCR = 0, 3, 6
_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 4: "undefined", 5: "complex", 6: "complex"}
_COLORS = {0: "gray, white is zero", 1: "gray", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_COLORS |= {9: "ICCLab", 32803: "color filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
# libtiff returns values in the machine's byte order, which Pillow takes into account only for unsigned 16 bits.
_NATIVE = {"F;32F": "F;32NF", "F;32BF": "F;32NF", "I;16S": "I;16NS", "I;16BS": "I;16NS"}
_NATIVE |= {"I;32S": "I;32NS", "I;32BS": "I;32NS"}


# Tags that describe pixels. All others (Make, DateTime, GPS, XMP ...) are metadata.
_PIXEL_TAGS = {*range(254, 260), 262, 263, 266, *range(273, 275), *range(277, 285), 288, 289, 290, 291, 292, 293, 296}
_PIXEL_TAGS |= {297, 301, *range(317, 326), *range(332, 335), *range(336, 343), 347, 512, *range(513, 522), 529}
_PIXEL_TAGS |= {530, 531, 532, IMAGE_DEPTH}
# Those without which pixels are wrong: all but the resolution.
_NEEDED_TAGS = _PIXEL_TAGS - {282, 283, 296}


class Form(NamedTuple):
    """How the pixels of a page are written."""

    bits: tuple[int, ...]
    formats: tuple[int, ...]
    samples: int
    color: int | None
    planar: bool
    compression: int
    extra: tuple[int, ...]

    def __str__(self) -> str:
        """Return it in words."""
        kinds = "/".join(dict.fromkeys(_FORMATS.get(kind, f"SampleFormat {kind}") for kind in self.formats))
        bits = "/".join(str(count) for count in dict.fromkeys(self.bits))
        parts = [f"{self.samples} {kinds} sample{'s'[: self.samples > 1]} of {bits} bits"]
        parts += [
            _COLORS.get(self.color, f"PhotometricInterpretation {self.color}")
            if self.color is not None
            else "without PhotometricInterpretation"
        ]
        parts += ["planes apart"] if self.planar else []
        parts += [f"ExtraSamples {self.extra}"] if self.extra else []
        name = COMPRESSION_INFO.get(self.compression, f"compression {self.compression}")
        return ", ".join([*parts, "uncompressed" if name == "raw" else name.removeprefix("tiff_")])


def open_page(file: IO[bytes], name: str) -> TiffImageFile:
    """Return the one picture in the file, with its header read and no pixel decoded.

    Raises:
        DataError: there are several pages, or Pillow decodes this form wrongly. Also Pillow's errors for damage.
    """
    pages = _list_pages(file, name)
    full = [number for number, page in enumerate(pages) if not _subfile_type(page) & (REDUCED | MASK)]
    if len(full) > 1 or (not full and len(pages) > 1) or _is_stack(pages[0]):
        raise DataError(f"image {name} has more than one frame; save one of them as a file: magick 'IN[0]' OUT.png")
    chosen = full[0] if full else 0
    page = pages[chosen]
    if not full and SUB_IFDS in page:
        raise DataError(
            f"image {name} holds camera raw data (such as DNG) and a small preview; convert it to PNG or TIFF"
        )
    form = check_form(page, name)
    file.seek(0)
    try:
        image = TiffImageFile(file)
        if chosen:
            image.seek(chosen)
    except SyntaxError as error:
        if str(error) not in ("unknown pixel mode", "unknown data organization"):
            raise
        _refuse(form, name)
    if not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]  # Pillow reads the orientation in it, and would fail
    return image


def has_metadata(data: bytes) -> bool:
    """Return whether a TIFF file holds anything but pixels and what describes them."""
    return any(set(page) - _PIXEL_TAGS for page in _list_pages(io.BytesIO(data), "<bytes>"))


def prepare(image: TiffImageFile, name: str) -> tuple[int, int]:
    """Make Pillow decode the picture correctly; return width and height of its tiles.

    Raises:
        DataError: Pillow cannot, or has already decoded it wrongly.
    """
    form = check_form(image.tag_v2, name)
    _silence_libtiff()
    if image.tile and image.tile[0][0] == "libtiff":
        tile: Any = image.tile[0]
        raw, *rest = tile[3]
        # A named tuple in new releases of Pillow.
        make: Any = getattr(type(tile), "_make", tuple)
        image.tile = [make((*tile[:3], (_NATIVE.get(raw, raw), *rest)))]
    if form.color == PALETTE and image.tile and max(entries := image.tag_v2.get(COLOR_MAP, (0,))) < 256:
        # Old programs wrote 8 bits where the specification has 16; Pillow would make them black.
        image.palette = ImagePalette.raw("RGB;L", bytes(entries))
    elif not image.tile and image.mode in ("I", "F") and image.tag_v2.prefix == b"MM" and form.compression != 1:
        raise DataError(f"image {name} was loaded by Pillow, which swaps the bytes of such TIFF files: pass the file")
    width, height = image.tag_v2.get(TILE_WIDTH, 1), image.tag_v2.get(TILE_LENGTH, 1)
    if not (isinstance(width, int) and isinstance(height, int)):
        raise DataError(f"image {name} has a damaged TIFF tile size {(width, height)!r}; replace or remove it")
    return width, height


def check_form(tags: Mapping[int, Any], name: str) -> Form:
    """Return the form of a page.

    Raises:
        DataError: Pillow does not decode it, or decodes it wrongly.
    """
    bits = tuple(tags.get(BITS_PER_SAMPLE, (1,)))
    samples = tags.get(SAMPLES_PER_PIXEL, 1)
    color, compression = tags.get(PHOTOMETRIC), tags.get(COMPRESSION, 1)
    planar = tags.get(PLANAR_CONFIGURATION, 1) == 2 and samples > 1
    form = Form(
        bits,
        tuple(tags.get(SAMPLE_FORMAT, (1,))),
        samples,
        color,
        planar,
        compression,
        tuple(tags.get(EXTRA_SAMPLES, ())),
    )
    deepest = max(bits)
    wrong = (
        compression not in COMPRESSION_INFO,
        len(set(bits)) > 1 or len(set(form.formats)) > 1,
        # Read as unsigned, so that the darkest becomes the brightest.
        form.formats[0] == 2 and deepest <= 8,
        # Half of each 16-bit value is read as a value of its own.
        planar and (deepest != 8 or color == YCBCR),
        # Not turned round.
        color == WHITE_IS_ZERO and deepest > 8,
        # Black or white: the specification gives no default, and programs differ.
        color is None and deepest > 1,
        color == YCBCR and not _is_plain_ycbcr(tags, compression),
        # Pillow has no name for these planes, or leaves that of alpha out.
        planar and bool(form.extra) and (compression == 1 and form.extra[0] != 2 or samples == 2 and form.extra[0] > 0),
    )
    if any(wrong):
        _refuse(form, name)
    return form


def stated_bits(image: TiffImageFile) -> int | None:
    """Return how many of 16 bits the file says are used, or None if it does not."""
    bits, most = tuple(image.tag_v2.get(BITS_PER_SAMPLE, (1,))), image.tag_v2.get(MAX_SAMPLE_VALUE)
    if bits == (12,):
        return 12
    # Some writers put the largest value of this very picture there: only that of a whole depth says how deep it is.
    top = most[0] if isinstance(most, tuple) and most else most
    return next((depth for depth in range(8, 16) if set(bits) == {16} and top == 2**depth - 1), None)


def _list_pages(file: IO[bytes], name: str) -> list[ImageFileDirectory_v2]:
    file.seek(0)
    header = file.read(8)
    header += file.read(8) if header[2:3] == b"+" else b""
    if header.startswith(b"MM\0+"):
        raise DataError(f"image {name} is a big-endian BigTIFF file, which is not read; save it as PNG or classic TIFF")
    pages: list[ImageFileDirectory_v2] = []
    offset, seen = ImageFileDirectory_v2(header).next, set()
    while offset and offset not in seen:
        seen.add(offset)
        if len(pages) == MOST_PAGES:
            raise DataError(f"image {name} has more than {MOST_PAGES} frames; save one of them as a file")
        page = ImageFileDirectory_v2(header)
        _check_whole(file, offset, page)
        file.seek(offset)
        page.load(file)
        pages.append(page)
        offset = page.next
    if not pages:
        raise DataError(f"image {name} is a TIFF file without a picture; replace or remove it")
    return pages


def _check_whole(file: IO[bytes], offset: int, page: ImageFileDirectory_v2) -> None:
    """Raise SyntaxError for tags that are cut off, or values of them: Pillow goes on without those that are missing."""
    big, order = page._bigtiff, "<" if page.prefix == b"II" else ">"
    file.seek(offset)
    (count,) = struct.unpack(order + "HQ"[big], file.read(8 if big else 2).ljust(8 if big else 2, b"\0"))
    start, size = file.tell(), file.seek(0, 2)
    entry = struct.Struct(order + ("HHQQ" if big else "HHLL"))
    if not count or start + count * entry.size > size:
        raise SyntaxError(f"its list of {count} tags is cut off")
    file.seek(start)
    tags = list(entry.iter_unpack(file.read(count * entry.size)))
    for index, (tag, kind, length, place) in enumerate(tags):
        length *= page._load_dispatch.get(kind, (0,))[0]
        # Pillow reads no tag after a value that is not there.
        if length > (8 if big else 4) and place + length > size and _NEEDED_TAGS & {row[0] for row in tags[index:]}:
            raise SyntaxError(f"the value of its tag {tag} is cut off")


def _subfile_type(page: Mapping[int, Any]) -> int:
    kind = page.get(NEW_SUBFILE_TYPE, 0)
    return kind if isinstance(kind, int) else 0


def _is_stack(page: Mapping[int, Any]) -> bool:
    """Return whether one page stands for several frames that follow each other, as ImageJ writes large ones."""
    description = page.get(DESCRIPTION, "")
    frames = re.search(r"^images=(\d+)", description, re.MULTILINE) if str(description).startswith("ImageJ=") else None
    return page.get(IMAGE_DEPTH, 1) != 1 or (frames is not None and int(frames[1]) > 1)


def _is_plain_ycbcr(tags: Mapping[int, Any], compression: int) -> bool:
    """Return whether libjpeg or libtiff makes gray of it, or its brightness is as JPEG's and stands with each pixel."""
    if compression != 1:
        return True
    range_of_luma = tuple(tags.get(REFERENCE_BLACK_WHITE, (0, 255)))[:2]
    return tuple(tags.get(YCBCR_SUBSAMPLING, (2, 2))) == (1, 1) and range_of_luma == (0, 255)


def _refuse(form: Form, name: str) -> NoReturn:
    raise DataError(
        f"image {name} is a TIFF of a form that is not read: {form}; save it as 8-bit gray or RGB, or as 16-bit gray "
        "where black is zero: magick IN -depth 8 OUT.png"
    ) from None


@functools.lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Keep libtiff from writing to stderr without the file's name: Pillow reports the same errors to us.

    Where the library is not found, its lines still come.
    """
    maps = Path("/proc/self/maps")
    text = maps.read_text(errors="replace") if os.access(maps, os.R_OK) else ""
    found = re.search(r"/\S*/libtiff[^/\s]*\.so[^/\s]*", text)
    if found and Path(found[0]).is_file():
        # Not at the top, as most programs read no TIFF file.
        import ctypes

        ctypes.CDLL(found[0]).TIFFSetErrorHandler(None)
