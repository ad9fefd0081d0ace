"""Decodes images: `load_gray` is the only way from an image to pixels, in training, export and prediction.

Steps: decode (of a JPEG only the luma, at 1/2, 1/4 or 1/8 by its DCT), convert to 8-bit gray (transparent parts become
black), shrink by whole factors, resize, rotate as EXIF says. DCT and whole factors keep at least `SPARE` times the
wanted size. Scaling to floats happens in the exported graph. Thread-safe. `jpeg`, `tiff` and `depth` are imported only
for the pictures that need them.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, features
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edgecls.errors import ConfigError, DataError
from edgecls.images import pillow
from edgecls.images.pillow import DECODE_ERRORS, decode_errors_named
from edgecls.limits import LEAST_BITS, MAX_FILE_BYTES, MAX_IMAGE_SIZE, MOST_BITS

if TYPE_CHECKING:
    from edgecls.images.depth import Scale

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]

# Written into every exported file: programs that feed the model without this module must do the same.
RESAMPLE = "spare2-bilinear"
LUMA = "itu-r-601"
# With 1, a DCT at 1/4 before a small resize changes photographs by up to 18 gray values; with 2, by up to 6.
SPARE = 2

# 8192 x 8192, or 256 MiB as RGBA, fits a board of 1 GB. For JPEG files: at the scale that is decoded.
MAX_PIXELS = 64 * 1024 * 1024
_ROOM = pillow.Room(MAX_PIXELS)
# Pillow resizes one axis at a time: 1 x 64 million pixels would need 14 GB on the way to 224 x 224.
MAX_SIDE = 65_535

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DECODERS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((pillow.PNG_SIGNATURE,), PngImageFile),
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"BM",), BmpImageFile),
    (TIFF_MAGICS, TiffImageFile),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImageFile),
)
_SIDEWAYS = (5, 6, 7, 8)
_T = Image.Transpose
_UPRIGHT = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE}
_UPRIGHT |= {6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}


class _Decoded(NamedTuple):
    gray: Image.Image  # mode L, not yet rotated
    size: tuple[float, float]  # of the picture in it: a DCT at 1/8 makes 136 rows of 1081 rows, 135.125 of them used
    orientation: int  # EXIF's
    scale: Scale | None  # if it has more than 8 bits


def load_gray(
    source: Source, height: int, width: int, bits: int | None = None, scales: list[Scale] | None = None
) -> NDArray[np.uint8]:
    """Return the picture as uint8 (H, W, 1), 0..255, C-contiguous and writeable.

    Pictures of the wanted size are not resampled. Pillow images and arrays are used as they are; a JPEG file that was
    decoded elsewhere differs by a few gray values. Transparent parts become black. More than 8 bits are scaled by a
    fixed range: 16 bits by the bits that the file says are used (PNG's sBIT, TIFF's MaxSampleValue or 12 bits a sample,
    PGM's maxval), else by `bits`, else 0..65535; floats within 0..1 by that range, other floats by 0..255.

    Args:
        source: path or bytes of a PNG, JPEG, BMP, TIFF, PPM/PGM or WebP file with one frame; a Pillow image; or an
            array, uint8 (H, W), (H, W, 1) or RGB (H, W, 3), or uint16 (H, W) or (H, W, 1).
        height: rows of the result.
        width: columns of the result.
        bits: how many of 16 bits are used in pictures that do not state it, 8 to 16; None is 16.
        scales: the `Scale` of a picture of more than 8 bits is added to it.

    Raises:
        DataError: the source cannot be read, is damaged, too big, animated, or of a kind not listed.
        ConfigError: height, width or bits is out of range.
    """
    if not (1 <= height <= MAX_IMAGE_SIZE and 1 <= width <= MAX_IMAGE_SIZE):
        raise ConfigError(f"height and width must be 1 to {MAX_IMAGE_SIZE}; received {height} x {width}")
    if bits is not None and not LEAST_BITS <= bits <= MOST_BITS:
        raise ConfigError(f"bits must be {LEAST_BITS} to {MOST_BITS}; received {bits}")
    decoded = _decode(source, (SPARE * width, SPARE * height), bits)
    if scales is not None and decoded.scale:
        scales.append(decoded.scale)
    size = (height, width) if decoded.orientation in _SIDEWAYS else (width, height)
    return np.array(_turn(_resize(decoded.gray, decoded.size, size), decoded.orientation), np.uint8)[:, :, np.newaxis]


def decode_gray(source: Source, bits: int | None = None) -> Image.Image:
    """Return the picture in its own size, upright, as a Pillow image of mode L.

    Raises:
        DataError: as `load_gray` raises it.
    """
    decoded = _decode(source, (MAX_SIDE, MAX_SIDE), bits)
    return _turn(decoded.gray, decoded.orientation)


def _decode(source: Source, least: tuple[int, int], bits: int | None) -> _Decoded:
    """Return the picture, of a JPEG file at the smallest scale that is not below `least`, (width, height) upright."""
    if isinstance(source, np.ndarray):
        return _decode_image(_wrap_array(source), "<array>", None, bits)
    if isinstance(source, Image.Image):
        return _decode_image(source, "<image>", None, bits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        with io.BytesIO(source) as file:
            return _decode_file(file, "<bytes>", least, bits)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"cannot read an image from {type(source).__name__}; pass a path, bytes, a Pillow image or a numpy array"
        )
    name = str(source)
    with _open_file(Path(source), name) as file:
        return _decode_file(file, name, least, bits)


def _decode_file(file: IO[bytes], name: str, least: tuple[int, int], bits: int | None) -> _Decoded:
    try:
        return _decode_image(_open_image(file, name), name, least, bits)
    except DataError:
        # Only after an error, so that good files are read once.
        bare = pillow.without_png_metadata(file)
        if bare is None:
            raise
    return _decode_image(_open_image(bare, name), name, least, bits)


def _open_file(path: Path, name: str) -> IO[bytes]:
    try:
        status = path.stat()
        # Checked first, as opening a named pipe would block.
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
            return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        from edgecls.images.archive import read_member

        if (content := read_member(path)) is not None:
            return io.BytesIO(content)
        cause = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot open image {name}: {cause}; check the path and its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise DataError(f"cannot open image {name}: it is {kind}; pass an image file")
    raise DataError(f"image {name} has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read: make it smaller")


def _open_image(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Return the picture with its header read and no pixel decoded.

    Not by Image.open(): it warns about sizes through warning filters, which threads share, and gives a phone's JPEG
    with a preview to another decoder. `_check_size` checks the size.
    """
    prefix = file.read(16)
    file.seek(0)
    if not prefix:
        raise DataError(f"image {name} is empty; replace or remove it")
    decoder = _choose_decoder(prefix, name)
    if decoder is PngImageFile:
        pillow.check_png(file, name)
        file.seek(0)
    with decode_errors_named(name):
        if decoder is not TiffImageFile:
            return decoder(file)
        from edgecls.images import tiff

        return tiff.open_page(file, name)


def _choose_decoder(prefix: bytes, name: str) -> type[ImageFile.ImageFile]:
    if prefix.startswith(b"RIFF") and prefix[8:12] == b"WEBP":
        if not features.check("webp"):
            raise DataError(f"cannot decode {name}: this Pillow was built without WebP; convert the image to PNG")
        return WebPImageFile
    for magics, decoder in _DECODERS:
        if prefix.startswith(magics):
            return decoder
    accepted = "PNG, JPEG, BMP, TIFF, PPM/PGM or WebP"
    raise DataError(f"{name} is not a {accepted} image (it starts with {prefix!r}); convert or remove it")


def _decode_image(image: Image.Image, name: str, least: tuple[int, int] | None, bits: int | None) -> _Decoded:
    """Return the picture in mode L; `least` is None if the caller decoded it."""
    if not least or not isinstance(image, JpegImageFile):
        _check_size(image.size, name)
    if isinstance(image, TiffImageFile):
        from edgecls.images import tiff

        with decode_errors_named(name):  # tags are parsed on access
            tile = tiff.prepare(image, name)
        _check_size(tile, f"{name} (TIFF tile)")  # huge tiles need much memory
    _check_frames(image, name, least is None)
    # Most JPEG files need little memory: only the luma is decoded, row by row.
    lean = isinstance(image, JpegImageFile) and image.mode != "CMYK" and "progressive" not in image.info
    with _ROOM.hold(image.width * image.height // (4 if lean else 1)):
        with decode_errors_named(name):
            # Before EXIF is read, which loads a PNG file to its end.
            deep = pillow.is_deep(image)
            stated = pillow.stated_bits(image) if deep else None
            factor = pillow.key_factor(image, name) if isinstance(image, PngImageFile) else 1
            if isinstance(image, BmpImageFile):
                pillow.check_bmp_palette(image, name)
            # Pillow rotates TIFF files itself.
            orientation = 1 if isinstance(image, TiffImageFile) else _orientation(image)
            image, drafted = _load(image, name, least[::-1] if least and orientation in _SIDEWAYS else least)
        scale: Scale | None = None
        if deep or image.mode in pillow.DEEP_MODES:
            from edgecls.images import depth

            gray, scale = depth.to_gray(image, name, factor, stated, bits)
        else:
            gray = pillow.gray_8bit(image, name, factor)
    return _Decoded(gray, drafted or gray.size, orientation, scale)


def _load(
    image: Image.Image, name: str, least: tuple[int, int] | None
) -> tuple[Image.Image, tuple[float, float] | None]:
    """Return the loaded picture and, for a JPEG file that was decoded smaller, its exact size."""
    if not least or not isinstance(image, JpegImageFile):
        image.load()
        return image, None
    from edgecls.images import jpeg

    drafted = image.draft("L", least) if image.mode != "CMYK" else None
    _check_size(image.size, name)  # of the decoded size: the DCT makes large pictures small
    return jpeg.load(image, name), drafted[1][2:] if drafted else None


def _check_frames(image: Image.Image, name: str, is_callers: bool) -> None:
    if isinstance(image, TiffImageFile) and not is_callers:
        return  # tiff.open_page has checked them
    with decode_errors_named(name):
        # The further frames of an MPO are previews and depth maps, not an animation.
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    if animated:
        remedy = "pass one frame as a Pillow image: image.copy()" if is_callers else "save one of them as a file"
        raise DataError(f"image {name} has more than one frame; {remedy}")


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation; 1 (upright) if it cannot be read."""
    if isinstance(image, PngImageFile):
        image.load()  # getexif would, and errors of pixels must not be taken for those of EXIF
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return orientation


def _resize(gray: Image.Image, picture: tuple[float, float], wanted: tuple[int, int]) -> Image.Image:
    """Return the picture, the upper left part of `gray`, in the wanted width and height."""
    factors = (max(int(picture[0] / wanted[0] / SPARE), 1), max(int(picture[1] / wanted[1] / SPARE), 1))
    if max(factors) > 1:
        gray = gray.reduce(factors)
    right, bottom = picture[0] / factors[0], picture[1] / factors[1]
    # One axis a call: each rounds, and their order differs between releases of Pillow.
    gray = gray.resize((wanted[0], gray.height), Image.Resampling.BILINEAR, (0, 0, right, gray.height))
    return gray.resize(wanted, Image.Resampling.BILINEAR, (0, 0, wanted[0], bottom))


def _turn(gray: Image.Image, orientation: int) -> Image.Image:
    # ImageOps.exif_transpose() would rewrite the EXIF block, and copy upright pictures.
    return gray.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else gray


def _check_size(size: tuple[int, int], name: str) -> None:
    if min(size) < 1:
        raise DataError(f"image {name} has no pixels ({size[0]} x {size[1]}); replace or remove it")
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"image {name} has {size[0]} x {size[1]} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are "
            "decoded: make it smaller"
        )


def _wrap_array(array: NDArray[Any]) -> Image.Image:
    one_channel = array.ndim == 2 or array.shape[2:] == (1,)
    gray_or_rgb = one_channel or array.shape[2:] == (3,)
    uint16 = array.dtype.kind == "u" and array.dtype.itemsize == 2  # either byte order
    if array.size == 0 or not (array.dtype == np.uint8 and gray_or_rgb or uint16 and one_channel):
        raise DataError(
            f"cannot use <array> {array.dtype} {array.shape}; accepted are uint8 (H, W), (H, W, 1) or RGB (H, W, 3), "
            "and uint16 (H, W) or (H, W, 1), none of them empty"
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and one_channel else array)
