"""The one pixel path: every picture that trains, calibrates, scores or is classified passes `load_gray`.

Steps, in this order: decode (of a JPEG only the luma, at 1/2, 1/4 or 1/8 by its DCT), gray with 8 bits (transparent
parts become black), shrink by whole factors, resize, turn upright by EXIF. Neither the DCT nor the whole factors go
below `SPARE` times the wanted size. Scaling to floats is not done here: it lives in the exported graph. May be called
    # Of most JPEG files the luma alone is decoded, a row at a time.
    lean = isinstance(image, JpegImageFile) and image.mode != "CMYK" and "progressive" not in image.info
    with _ROOM.hold(image.width * image.height // (4 if lean else 1)):
        with _decode_errors_named(name):
            # Pillow itself turns a TIFF while it loads, and decodes a PNG to look for EXIF after its pixels.
            orientation = 1 if isinstance(image, TiffImageFile) else image.getexif().get(ExifTags.Base.Orientation, 1)
            drafted = None
            if least and isinstance(image, JpegImageFile):
                if image.mode != "CMYK":
                    drafted = image.draft("L", least[::-1] if orientation in _SIDEWAYS else least)
                _check_size(image.size, name)  # of what is decoded: its DCT makes a large picture small
                image = jpeg.load(image, name)
            else:
                image.load()
        gray = _gray_deep(image, name) if image.mode in _DEEP_MODES else _gray_8bit(image, name)
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, features
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edgecls.decode_memory import Room, map_rows
from edgecls.errors import ConfigError, DataError
from edgecls.images import jpeg
from edgecls.images.png_checksums import check_png
from edgecls.limits import MAX_IMAGE_SIZE

Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]

# Written into every exported file: whoever feeds the model without this module has to do the same.
RESAMPLE = "spare2-bilinear"
LUMA = "itu-r-601"
# At 1, a DCT at 1/4 followed by a hardly smaller resize is off by 18 gray values on photographs; at 2, by 6.
SPARE = 2

# 8192 x 8192, and 256 MiB as RGBA, which a board of 1 GB survives. Of a JPEG file: at the scale that is decoded.
MAX_PIXELS = 64 * 1024 * 1024
_ROOM = Room(MAX_PIXELS)
# Pillow resizes one axis at a time: a picture of 1 x 64 million would grow to 14 GB half way to 224 x 224.
MAX_SIDE = 65_535
# MAX_PIXELS at 8 bytes a pixel is 512 MiB; Pillow reads a WebP file whole before it looks at its size.
MAX_FILE_BYTES = 1024**3

_ACCEPTED = "PNG, JPEG, BMP, TIFF, PPM/PGM or WebP"
_DECODERS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), PngImageFile),
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"BM",), BmpImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImageFile),
)
_SIDEWAYS = (5, 6, 7, 8)
_LUMA_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_T = Image.Transpose
_UPRIGHT = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE}
_UPRIGHT |= {6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}
# What Pillow's decoders let out on damaged files, found by flipping bytes: they parse in Python and do not wrap what
# the parsing raises. MemoryError and OverflowError (an ArithmeticError) come from absurd sizes in headers, Attribute-
# and AssertionError from parts that are missing. Warning, because a program that turns warnings into errors gets
# Pillow's remarks on damaged metadata as exceptions.
_DECODE_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
_DECODE_ERRORS += (ArithmeticError, AssertionError, AttributeError, MemoryError, struct.error, zlib.error)
_DECODE_ERRORS += (Image.DecompressionBombError, Warning)


class _Decoded(NamedTuple):
    gray: Image.Image  # mode L, not yet turned
    size: tuple[float, float]  # of the picture in it: a DCT at 1/8 makes 136 rows of 1081, which are 135.125
    orientation: int  # as EXIF says it


def load_gray(source: Source, height: int, width: int) -> NDArray[np.uint8]:
    """Return the picture as uint8 (H, W, 1), 0..255, C-contiguous and writeable.

    Pictures of the wanted size are not resampled. A Pillow image or an array is taken as decoded: a JPEG file that was
    decoded elsewhere differs by a few gray values from the same file read here. A picture with a transparent part is
    composed on black. Deep gray maps its full range to 0..255 whatever the picture holds: 16 bits and mode I as
    0..65535, mode F as 0..255.

    Args:
        source: path or bytes of a PNG, JPEG, BMP, TIFF, PPM/PGM or WebP file with one frame; a Pillow image; or an
            array, uint8 (H, W), (H, W, 1) or RGB (H, W, 3), or uint16 (H, W).
        height: rows of the result.
        width: columns of the result.

    Raises:
        DataError: the source cannot be read, is damaged, too big, animated, or of a kind not listed.
        ConfigError: height or width is out of range.
    """
    if not (1 <= height <= MAX_IMAGE_SIZE and 1 <= width <= MAX_IMAGE_SIZE):
        raise ConfigError(f"height and width must be 1 to {MAX_IMAGE_SIZE}; received {height} x {width}")
    decoded = _decode(source, (SPARE * width, SPARE * height))
    size = (height, width) if decoded.orientation in _SIDEWAYS else (width, height)
    turned = _turn(_resize(decoded.gray, decoded.size, size), decoded.orientation)
    return np.array(turned, dtype=np.uint8)[:, :, np.newaxis]


def decode_gray(source: Source) -> Image.Image:
    """Return the picture in its own size, upright, as a Pillow image of mode L.

    Raises:
        DataError: as `load_gray` raises it.
    """
    decoded = _decode(source, (MAX_SIDE, MAX_SIDE))
    return _turn(decoded.gray, decoded.orientation)


def _decode(source: Source, least: tuple[int, int]) -> _Decoded:
    """Return the picture, of a JPEG file at the smallest scale that is not below `least`, (width, height) upright."""
    if isinstance(source, np.ndarray):
        return _decode_image(_wrap_array(source), "<array>", None)
    if isinstance(source, Image.Image):
        return _decode_image(source, "<image>", None)
    if isinstance(source, bytes):
        with io.BytesIO(source) as file:
            return _decode_image(_open_image(file, "<bytes>"), "<bytes>", least)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"cannot read an image from {type(source).__name__}; pass a path, bytes, a Pillow image or a numpy array"
        )
    name = str(source)
    with _open_file(Path(source), name) as file:
        return _decode_image(_open_image(file, name), name, least)


def _open_file(path: Path, name: str) -> IO[bytes]:
    try:
        status = path.stat()
        # Tested first, as opening a named pipe would wait for ever.
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
            return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        cause = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot open image {name}: {cause}; check the path and its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise DataError(f"cannot open image {name}: it is {kind}; pass an image file")
    raise DataError(f"image {name} has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read: make it smaller")


def _open_image(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Return the picture with its header read and no pixel decoded.

    Calls the one decoder's class, not Image.open(formats=...): that one warns about sizes through the process-wide
    warning filters, which no thread can change for itself alone, and gives a phone's JPEG with an attached preview to
    another decoder. The size is checked by `_check_size` instead.
    """
    prefix = file.read(16)
    file.seek(0)
    if not prefix:
        raise DataError(f"image {name} is empty; replace or remove it")
    decoder = _choose_decoder(prefix, name)
    if decoder is PngImageFile:
        check_png(file, name)
        file.seek(0)
    with _decode_errors_named(name):
        return decoder(file)


def _choose_decoder(prefix: bytes, name: str) -> type[ImageFile.ImageFile]:
    if prefix.startswith(b"RIFF") and prefix[8:12] == b"WEBP":
        if not features.check("webp"):
            raise DataError(f"cannot decode {name}: this Pillow was built without WebP; convert the image to PNG")
        return WebPImageFile
    for magics, decoder in _DECODERS:
        if prefix.startswith(magics):
            return decoder
    raise DataError(f"{name} is not a {_ACCEPTED} image (it starts with {prefix!r}); convert or remove it")


@contextmanager
def _decode_errors_named(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except _DECODE_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot decode image {name} ({cause}); replace or remove it") from error


def _decode_image(image: Image.Image, name: str, least: tuple[int, int] | None) -> _Decoded:
    """Return the picture in mode L; `least` is None if it is the caller's, whose scale is not ours to change."""
    if not least or not isinstance(image, JpegImageFile):
        _check_size(image.size, name)
    if isinstance(image, TiffImageFile):
        _check_tiff(image, name)
    with _decode_errors_named(name):
        # The further frames of an MPO are previews and depth maps, not an animation.
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    if animated:
        raise DataError(f"image {name} has more than one frame; pass one frame as a Pillow image: image.copy()")
    # Of most JPEG files the luma alone is decoded, a row at a time.
    lean = isinstance(image, JpegImageFile) and image.mode != "CMYK" and "progressive" not in image.info
    with _ROOM.hold(image.width * image.height // (4 if lean else 1)):
        with _decode_errors_named(name):
            # Pillow itself turns a TIFF while it loads, and decodes a PNG to look for EXIF after its pixels.
            orientation = 1 if isinstance(image, TiffImageFile) else image.getexif().get(ExifTags.Base.Orientation, 1)
            drafted = None
            if least and isinstance(image, JpegImageFile):
                if image.mode != "CMYK":
                    drafted = image.draft("L", least[::-1] if orientation in _SIDEWAYS else least)
                _check_size(image.size, name)  # of what is decoded: its DCT makes a large picture small
                image = jpeg.load(image, name)
            else:
                image.load()
        gray = _gray_deep(image, name) if image.mode in _DEEP_MODES else _gray_8bit(image, name)
    return _Decoded(gray, drafted[1][2:] if drafted else gray.size, orientation)


def _resize(gray: Image.Image, picture: tuple[float, float], wanted: tuple[int, int]) -> Image.Image:
    """Return the picture, which is the upper left part of `gray`, in the wanted width and height."""
    factors = (max(int(picture[0] / wanted[0] / SPARE), 1), max(int(picture[1] / wanted[1] / SPARE), 1))
    if max(factors) > 1:
        gray = gray.reduce(factors)
    right, bottom = picture[0] / factors[0], picture[1] / factors[1]
    # One axis a call: each rounds, and which one goes first differs between releases of Pillow.
    gray = gray.resize((wanted[0], gray.height), Image.Resampling.BILINEAR, (0, 0, right, gray.height))
    return gray.resize(wanted, Image.Resampling.BILINEAR, (0, 0, wanted[0], bottom))


def _turn(gray: Image.Image, orientation: int) -> Image.Image:
    # Not ImageOps.exif_transpose(): it rewrites the whole EXIF block, and copies the picture if there is none.
    return gray.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else gray


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DataError(f"image {name} has no pixels ({width} x {height}); replace or remove it")
    if max(size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise DataError(
            f"image {name} has {width} x {height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are "
            "decoded: make it smaller"
        )


def _check_tiff(image: TiffImageFile, name: str) -> None:
    """Raise DataError for what Pillow decodes at any cost (huge tiles) or without a word wrongly (deep gray)."""
    tags = image.tag_v2
    with _decode_errors_named(name):  # a tag's value is parsed when it is asked for
        tile = (tags.get(ExifTags.Base.TileWidth, 1), tags.get(ExifTags.Base.TileLength, 1))
        bits = tags.get(ExifTags.Base.BitsPerSample)
        white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    if not all(isinstance(side, int) for side in tile):
        raise DataError(f"image {name} has a damaged TIFF tile size {tile!r}; replace or remove it")
    _check_size(tile, f"{name} (TIFF tile)")
    if image.mode in _DEEP_MODES and (bits == (12,) or white_is_zero):
        raise DataError(
            f"image {name} is a TIFF with {bits} bits a sample{', white is zero' if white_is_zero else ''}, which "
            "Pillow does not scale; save it with 8 or 16 bits where black is zero"
        )


def _gray_8bit(image: Image.Image, name: str) -> Image.Image:
    if image.mode not in _LUMA_MODES:
        accepted = ", ".join(_LUMA_MODES + _DEEP_MODES)
        raise DataError(f"image {name} has mode {image.mode!r}; accepted are {accepted}: convert it to one of them")
    with _decode_errors_named(name):  # a damaged PNG can lack its palette or name a transparent colour that is none
        transparent = _is_transparent(image)
        if transparent and image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")
        gray = image if image.mode == "L" else image.convert("L")
    if not transparent:
        return gray
    on_black = Image.new("L", image.size)
    on_black.paste(gray, mask=image.getchannel("A"))
    return on_black


def _is_transparent(image: Image.Image) -> bool:
    # Debian 12's Pillow 9.4, which 32-bit Raspberry Pis have, knows no Image.has_transparency_data.
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info or palette.endswith("A")


def _gray_deep(image: Image.Image, name: str) -> Image.Image:
    """Return modes I;16, I and F in mode L by a range that the mode sets and not the picture.

    Pillow's convert("L") would clip 16 bits at 255. Mode I counts as 16 bits because Pillow reads 16-bit PNG and PGM
    into it.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    top = 255 if image.mode == "F" else 65535
    if not (low >= 0 and high <= top):  # NaN fails too
        raise DataError(
            f"image {name} of mode {image.mode} has values from {low} to {high}; expected 0 to {top}: rescale it"
        )
    if image.mode == "F":
        return Image.fromarray(map_rows(np.rint, values))
    # 65535 / 255 = 257; as 257 is odd, adding 128 rounds every value to the nearest and there are no ties.
    gray = map_rows(lambda part: (part.astype(np.uint32) + 128) // 257, values)
    gray[values == image.info.get("transparency", -1)] = 0  # a PNG's transparent gray becomes black
    return Image.fromarray(gray)


def _wrap_array(array: NDArray[Any]) -> Image.Image:
    gray_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    uint16 = array.dtype.kind == "u" and array.dtype.itemsize == 2  # either byte order
    if array.size == 0 or not (array.dtype == np.uint8 and gray_or_rgb or uint16 and array.ndim == 2):
        raise DataError(
            f"cannot use <array> {array.dtype} {array.shape}; accepted are uint8 (H, W), (H, W, 1) or RGB (H, W, 3), "
            "and uint16 (H, W), none of them empty"
        )
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
