"""Opens image files: the decoder is chosen by the first bytes, never by the name, and no pixel is decoded yet."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import IO

from PIL import ImageFile, features
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edgecls.errors import DataError
from edgecls.images import pillow
from edgecls.images.pillow import decode_errors_named
from edgecls.limits import MAX_FILE_BYTES

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DECODERS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((pillow.PNG_SIGNATURE,), PngImageFile),
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"BM",), BmpImageFile),
    (TIFF_MAGICS, TiffImageFile),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImageFile),
)


def open_file(path: Path, name: str) -> IO[bytes]:
    """Return the bytes of a file, or of a member of an archive; raise DataError if they cannot be had."""
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


def open_image(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Return the picture with its header read and no pixel decoded.

    Not by Image.open(): it warns about sizes through warning filters, which threads share, and gives a phone's JPEG
    with a preview to another decoder. `decode` checks the size.
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


def read_size(path: Path) -> tuple[int, int]:
    """Return the stored width and height of an image file in pixels, from its header.

    Raises:
        DataError: it cannot be opened, or is no image.
    """
    name = str(path)
    with open_file(path, name) as file:
        return open_image(file, name).size


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
