"""Decodes images: `load_gray` is the only way from an image to pixels, in training, export and prediction.

Steps: decode (of a JPEG only the luma, at 1/2, 1/4 or 1/8 by its DCT), convert to 8-bit gray (transparent parts become
black), cut out the part that the network gets, shrink by whole factors, resize, rotate as EXIF says, pad. DCT and whole
factors keep at least `SPARE` times the wanted size. Scaling to floats happens in the exported graph. Thread-safe.
`jpeg`, `tiff` and `depth` are imported only for the pictures that need them.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from edgecls.errors import ConfigError, DataError
from edgecls.images import pillow, resizing
from edgecls.images.opening import open_file, open_image
from edgecls.images.pillow import DECODE_ERRORS, decode_errors_named
from edgecls.images.resizing import SPARE as SPARE
from edgecls.images.resizing import Placement, Size
from edgecls.limits import MAX_IMAGE_SIZE, MAX_SIDE
from edgecls.preprocessing import Preprocessing

if TYPE_CHECKING:
    from edgecls.images.depth import Scale

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]

# Written into every exported file: programs that feed the model without this module must do the same.
RESAMPLE = "spare2-bilinear"
LUMA = "itu-r-601"
PLAIN = Preprocessing()

# 8192 x 8192, or 256 MiB as RGBA, fits a board of 1 GB. For JPEG files: at the scale that is decoded.
MAX_PIXELS = 64 * 1024 * 1024
_ROOM = pillow.Room(MAX_PIXELS)


class _Decoded(NamedTuple):
    gray: Image.Image  # mode L, not yet rotated
    size: Size  # of the stored picture, not yet rotated
    shrunk: int  # a DCT at 1/8 makes 136 rows of 1081 rows, 135.125 of them used
    orientation: int  # EXIF's
    scale: Scale | None  # if it has more than 8 bits
    name: str  # in errors

    def place(self, target: _Target) -> Placement:
        return target.place(self.size, self.orientation, self.name)


class _Target(NamedTuple):
    wanted: Size | None  # of the network's input; None is the picture's own size
    preprocessing: Preprocessing

    def place(self, stored: Size, orientation: int, name: str) -> Placement:
        picture = resizing.upright_size(stored, orientation)
        return resizing.place(picture, self.wanted or picture, self.preprocessing, name)


def load_gray(
    source: Source,
    height: int,
    width: int,
    preprocessing: Preprocessing = PLAIN,
    scales: list[Scale] | None = None,
) -> NDArray[np.uint8]:
    """Return the picture as uint8 (H, W, 1), 0..255, C-contiguous and writeable.

    Parts of the wanted size are not resampled. Pillow images and arrays are used as they are; a JPEG file that was
    decoded elsewhere differs by a few gray values. Transparent parts become black. More than 8 bits are scaled by a
    fixed range: 16 bits by the bits that the file says are used (PNG's sBIT, TIFF's MaxSampleValue or 12 bits a sample,
    PGM's maxval), else by those of `preprocessing`, else 0..65535; floats within 0..1 by that range, other floats by
    0..255.

    Args:
        source: path or bytes of a PNG, JPEG, BMP, TIFF, PPM/PGM or WebP file with one frame; a Pillow image; or an
            array, uint8 (H, W), (H, W, 1) or RGB (H, W, 3), or uint16 (H, W) or (H, W, 1).
        height: rows of the result.
        width: columns of the result.
        preprocessing: which part of the picture, and how it is fitted.
        scales: the `Scale` of a picture of more than 8 bits is added to it.

    Raises:
        DataError: the source cannot be read, is damaged, too big, animated, or of a kind not listed; or the region of
            interest is not inside it.
        ConfigError: height or width is out of range.
    """
    if not (1 <= height <= MAX_IMAGE_SIZE and 1 <= width <= MAX_IMAGE_SIZE):
        raise ConfigError(f"height and width must be 1 to {MAX_IMAGE_SIZE}; received {height} x {width}")
    target = _Target((width, height), preprocessing)
    decoded = _decode(source, target)
    if scales is not None and decoded.scale:
        scales.append(decoded.scale)
    placement = decoded.place(target)
    part = resizing.fit(decoded.gray, decoded.shrunk, decoded.size, decoded.orientation, placement)
    return np.array(resizing.pad(part, (width, height), placement.offset), np.uint8)[:, :, np.newaxis]


def decode_gray(source: Source, bits: int | None = None) -> Image.Image:
    """Return the whole picture in its own size, upright, as a Pillow image of mode L; `bits` as in `Preprocessing`.

    Raises:
        DataError: as `load_gray` raises it.
    """
    decoded = _decode(source, _Target(None, Preprocessing(bits)))
    return resizing.turn(decoded.gray, decoded.orientation)


def decode_part(source: Source, height: int, width: int, preprocessing: Preprocessing) -> Image.Image:
    """Return what `load_gray` resizes, with the same arguments, before it does: the part of the picture, and padding.

    Of the picture's own resolution, as a Pillow image of mode L; a heat map of the input covers all of it.

    Raises:
        DataError: as `load_gray` raises it.
    """
    whole = decode_gray(source, preprocessing.bits)
    placement = resizing.place(whole.size, (width, height), preprocessing, _name(source))
    part = whole.crop(placement.box)
    scale = placement.part[0] / placement.size[0], placement.part[1] / placement.size[1]
    size = round(width * scale[0]), round(height * scale[1])
    offset = round(placement.offset[0] * scale[0]), round(placement.offset[1] * scale[1])
    return resizing.pad(part, size, offset)


def _name(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return "<array>" if isinstance(source, np.ndarray) else "<image>" if isinstance(source, Image.Image) else "<bytes>"


def _decode(source: Source, target: _Target) -> _Decoded:
    """Return the picture, of a JPEG file at the smallest scale that the target allows."""
    name = _name(source)
    if isinstance(source, np.ndarray):
        return _decode_image(_wrap_array(source), name, target, is_callers=True)
    if isinstance(source, Image.Image):
        return _decode_image(source, name, target, is_callers=True)
    if isinstance(source, (bytes, bytearray, memoryview)):
        # Parts of a memoryview may not lie side by side.
        with io.BytesIO(bytes(source)) as file:
            return _decode_file(file, name, target)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"cannot read an image from {type(source).__name__}; pass a path, bytes, a Pillow image or a numpy array"
        )
    with open_file(Path(source), name) as file:
        return _decode_file(file, name, target)


def _decode_file(file: IO[bytes], name: str, target: _Target) -> _Decoded:
    try:
        return _decode_image(open_image(file, name), name, target)
    except DataError:
        # Only after an error, so that good files are read once.
        bare = pillow.without_png_metadata(file)
        if bare is None:
            raise
    return _decode_image(open_image(bare, name), name, target)


def _decode_image(image: Image.Image, name: str, target: _Target, *, is_callers: bool = False) -> _Decoded:
    """Return the picture in mode L; pictures that the caller decoded are not shrunk."""
    if is_callers or not isinstance(image, JpegImageFile):
        _check_size(image.size, name)
    if isinstance(image, TiffImageFile):
        from edgecls.images import tiff

        with decode_errors_named(name):  # tags are parsed on access
            tile = tiff.prepare(image, name)
        _check_size(tile, f"{name} (TIFF tile)")  # huge tiles need much memory
    _check_frames(image, name, is_callers)
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
            elif isinstance(image, PpmImageFile):
                pillow.check_pnm(image, name)
            # Pillow rotates TIFF files itself.
            orientation = 1 if isinstance(image, TiffImageFile) else _orientation(image)
            full = image.size
            image, shrunk = (image, 1) if is_callers else _load(image, name, target, orientation)
            image.load()
        scale: Scale | None = None
        if deep or image.mode in pillow.DEEP_MODES:
            from edgecls.images import depth

            gray, scale = depth.to_gray(image, name, factor, stated, target.preprocessing.bits)
        else:
            gray = pillow.gray_8bit(image, name, factor)
    return _Decoded(gray, full if shrunk > 1 else gray.size, shrunk, orientation, scale, name)


def _load(image: Image.Image, name: str, target: _Target, orientation: int) -> tuple[Image.Image, int]:
    """Return the picture and the factor by which its DCT shrinks it; JPEG files are loaded."""
    if not isinstance(image, JpegImageFile):
        return image, 1
    from edgecls.images import jpeg

    shrunk = 1
    if image.mode != "CMYK":
        full = image.size
        shrunk = resizing.choose_shrink(target.place(full, orientation, name)) if target.wanted else 1
        # Pillow takes the largest factor that leaves this size.
        if image.draft("L", (full[0] // shrunk, full[1] // shrunk)) is None:
            shrunk = 1
    _check_size(image.size, name)  # of the decoded size: the DCT makes large pictures small
    return jpeg.load(image, name), shrunk


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


def _check_size(size: tuple[int, int], name: str) -> None:
    if min(size) < 1:
        raise DataError(f"image {name} has no pixels ({size[0]} x {size[1]}); replace or remove it")
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"image {name} has {size[0]} x {size[1]} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are "
            "decoded: make it smaller"
        )


def _wrap_array(array: NDArray[Any]) -> Image.Image:
    if isinstance(array, np.ma.MaskedArray):
        raise DataError("cannot use a masked <array>: its mask would have no effect; pass array.filled(0)")
    one_channel = array.ndim == 2 or array.shape[2:] == (1,)
    gray_or_rgb = one_channel or array.shape[2:] == (3,)
    uint16 = array.dtype.kind == "u" and array.dtype.itemsize == 2  # either byte order
    if array.size == 0 or not (array.dtype == np.uint8 and gray_or_rgb or uint16 and one_channel):
        raise DataError(
            f"cannot use <array> {array.dtype} {array.shape}; accepted are uint8 (H, W), (H, W, 1) or RGB (H, W, 3), "
            "and uint16 (H, W) or (H, W, 1), none of them empty"
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and one_channel else array)
