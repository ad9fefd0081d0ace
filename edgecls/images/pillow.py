"""What Pillow's decoders lack: errors that name the file, checksums of PNG files, palettes, and a limit of memory."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from edgecls.errors import ConfigError, DataError

LUMA_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks whose damage changes pixels.
_PNG_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
# Optional chunks that change the pixels or the number of pictures.
_PNG_NEEDED = (b"tRNS", b"acTL", b"sBIT")
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")
# Smaller pictures need little memory and do not wait.
SMALL_PIXELS = 2**20
# malloc keeps freed blocks for the thread, such as Pillow's of 16 MB, but not those above 32 MB.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]
# Found by flipping bytes: the decoders parse headers in Python and do not wrap errors. MemoryError and OverflowError
# (an ArithmeticError) come from absurd sizes, AttributeError and AssertionError from missing parts. Warning, because a
# program may turn Pillow's warnings about damaged metadata into errors.
DECODE_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
DECODE_ERRORS += (ArithmeticError, AssertionError, AttributeError, MemoryError, struct.error, zlib.error)
DECODE_ERRORS += (Image.DecompressionBombError, Warning)
# These warnings do not name the file, and threads share the filters. They are about metadata: damaged pixels are an
# error, and forms that Pillow decodes wrongly are refused.
warnings.filterwarnings("ignore", module=r"PIL\.(Tiff|Png|Jpeg|WebP|Bmp)ImagePlugin")


@contextmanager
def decode_errors_named(name: str) -> Iterator[None]:
    """Turn Pillow's errors on a damaged file into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except DECODE_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot decode image {name} ({cause}); replace or remove it") from error


class Room:
    """Room for a number of pixels that threads share; a picture larger than all of it is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._empty()
        if hasattr(os, "register_at_fork"):
            # The threads that hold room do not exist in the child, and would never release it.
            os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        self._changed = threading.Condition()
        self._held = 0

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for room for a picture of so many pixels, and hold it during the block."""
        if pixels < SMALL_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


def map_rows(function: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return `function` of the values as uint8, computed for a few rows at a time to save memory."""
    result = np.empty(values.shape, np.uint8)
    rows = max(1, SMALL_PIXELS // values.shape[1])
    for start in range(0, len(values), rows):
        result[start : start + rows] = function(values[start : start + rows])
    return result


def gray_8bit(image: Image.Image, name: str, key_factor: int) -> Image.Image:
    """Return a loaded picture in mode L.

    Args:
        image: of 8 bits a channel.
        name: for errors.
        key_factor: of `key_factor`.

    Raises:
        DataError: its mode is not supported, or its palette or transparent color is damaged.
    """
    if image.mode not in LUMA_MODES:
        accepted = ", ".join(LUMA_MODES + DEEP_MODES)
        raise DataError(f"image {name} has mode {image.mode!r}; accepted are {accepted}: convert it to one of them")
    with decode_errors_named(name):  # a damaged PNG may lack its palette or have an invalid transparent color
        if key_factor > 1 and "transparency" in image.info:
            image = image.copy()
            image.info["transparency"] = min(image.info["transparency"] * key_factor, 255)
        transparent = _is_transparent(image) and not (isinstance(image, BmpImageFile) and _has_no_alpha(image))
        if transparent and image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")
        gray = image if image.mode == "L" else image.convert("L")
    if not transparent:
        return gray
    on_black = Image.new("L", image.size)
    on_black.paste(gray, mask=image.getchannel("A"))
    return on_black


def _is_transparent(image: Image.Image) -> bool:
    # Pillow 9.4 of Debian 12 (32-bit Raspberry Pis) has no Image.has_transparency_data.
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info or palette.endswith("A")


def is_deep(image: Image.Image) -> bool:
    """Return whether the file has 16 bits or floats; Pillow may keep 8 bits of them."""
    if image.mode in DEEP_MODES:
        return True
    if not isinstance(image, (PngImageFile, TiffImageFile, PpmImageFile)) or not image.tile:
        return False
    arguments: Any = image.tile[0][3]
    if isinstance(image, PpmImageFile):
        return isinstance(arguments, tuple) and arguments[-1] == 65535
    return ";16" in (arguments if isinstance(arguments, str) else arguments[0])


def stated_bits(image: Image.Image) -> int | None:
    """Return how many of 16 bits are used as stated in the file, or None if it states nothing."""
    if isinstance(image, TiffImageFile):
        from edgecls.images import tiff

        return tiff.stated_bits(image)
    if isinstance(image, PngImageFile):
        return _png_bits(image)
    # Pillow has already scaled values by a PGM's maxval below 65535.
    tile: Any = image.tile[0] if isinstance(image, PpmImageFile) and image.tile else ("",)
    return 16 if tile[0] in ("ppm", "ppm_plain") and tile[3][-1] != 65535 else None


def check_bmp_palette(image: BmpImageFile, name: str) -> None:
    """Raise DataError for a picture, not yet loaded, with a palette of grays that Pillow ignores."""
    if image.mode not in ("1", "L") or not image.fp or not image.tile:
        return
    position = image.fp.tell()
    image.fp.seek(14)
    header = image.fp.read(16)
    image.fp.seek(position)
    start = 10 if header[:4] == b"\x0c\0\0\0" else 14
    bits = int.from_bytes(header[start : start + 2], "little")
    if bits != {"1": 1, "L": 8}[image.mode]:
        raise DataError(
            f"image {name} is a BMP of {bits} bits with a palette of grays, which is not supported; save it as PNG"
        )


def check_pnm(image: PpmImageFile, name: str) -> None:
    """Raise DataError for a binary PGM, PPM or PBM, not yet loaded, of several pictures or with values above white."""
    decoder, _, start, arguments = image.tile[0] if image.tile else ("", None, 0, ())
    if not image.fp or decoder not in ("raw", "ppm"):
        return
    most = arguments[-1] if isinstance(arguments, tuple) else 65535 if arguments == "I;16B" else 255
    row = image.width * len(image.getbands()) if image.mode != "1" else -(-image.width // 8)
    position = image.fp.tell()
    image.fp.seek(start - 1)
    step = 2 if most > 255 else 1
    before = image.fp.read(1)
    data = image.fp.read(row * image.height * step)
    after = image.fp.read(len("P5 "))
    image.fp.seek(position)
    # One character ends the header, so the line break of Windows puts a byte before the pixels.
    if before == b"\r" and data[:1] == b"\n" and len(after) == 1:
        raise DataError(
            f"image {name} has a header that ends in CR LF, the line break of Windows, where one character may stand: "
            "its pixels would be shifted; write a line feed only, or save it as PNG"
        )
    if re.match(rb"P[1-6]\s", after):
        raise DataError(f"image {name} has more than one frame; save one of them as a file")
    values = np.frombuffer(data, ">u2" if step == 2 else "u1", len(data) // step)
    if values.size and values.max() > most:
        raise DataError(
            f"image {name} has values up to {values.max()}, but its header says that {most} is white; correct the "
            "header or save it as PNG"
        )


def _has_no_alpha(image: BmpImageFile) -> bool:
    """Return whether the alpha channel of a loaded picture is all 0, as many programs write it."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema()[1] == 0


def check_png(file: IO[bytes], name: str) -> None:
    """Raise DataError if a chunk that makes pixels is damaged; the decoder notices what is missing at the end."""
    file.seek(len(PNG_SIGNATURE))
    for kind, body, checksum in _png_chunks(file, before=b"IEND", wanted=_PNG_CHECKED):
        if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            at = file.tell() - len(body) - 12
            found = f"the checksum of its {kind.decode()} at byte {at} is wrong"
            raise DataError(f"image {name} is damaged: {found}; replace or remove it")


def png_has_metadata(data: bytes) -> bool:
    """Return whether a PNG file holds EXIF, texts or a time."""
    file = io.BytesIO(data)
    file.seek(len(PNG_SIGNATURE))
    return any(kind in _PNG_METADATA for kind, _, _ in _png_chunks(file))


def without_png_metadata(file: IO[bytes]) -> IO[bytes] | None:
    """Return the file without the chunks that no pixel needs, or None if it has none.

    Pillow refuses a file for text that is too long, and for a wrong checksum of any chunk.
    """
    file.seek(0)
    if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
        return None
    kept, dropped = [PNG_SIGNATURE], False
    for kind, body, checksum in _png_chunks(file):
        ancillary = bool(kind[:1].islower())
        # EXIF may hold the orientation; it is kept if it is not damaged.
        readable = kind == b"eXIf" and checksum == struct.pack(">I", zlib.crc32(kind + body))
        if ancillary and kind not in _PNG_NEEDED and not readable:
            dropped = True
        else:
            kept.append(struct.pack(">I", len(body)) + kind + body + checksum)
    return io.BytesIO(b"".join(kept)) if dropped else None


def key_factor(image: PngImageFile, name: str) -> int:
    """Return the factor for the transparent gray of a picture that is not loaded.

    Pillow scales gray of 2 and 4 bits to 8 bits, but not the transparent color; old releases also 1 bit.

    Raises:
        DataError: the transparent color has 16 bits a channel, of which Pillow keeps 8.
    """
    raw = str(image.tile[0][3]) if image.tile else ""
    if "transparency" in image.info and image.mode == "RGB" and ";16" in raw:
        raise DataError(
            f"image {name} has 16 bits a channel and one transparent color, which is not read; save it with an alpha "
            "channel or with 8 bits"
        )
    return {"1": 255, "L;2": 85, "L;4": 17}.get(raw, 1)


def _png_bits(image: PngImageFile) -> int | None:
    """Return how many bits of gray the sBIT chunk says are used; None without one, or if the file is closed already."""
    if image.fp is None:
        return None
    file, position = image.fp, image.fp.tell()
    try:
        file.seek(len(PNG_SIGNATURE))
        for kind, body, _ in _png_chunks(file, before=b"IDAT"):
            if kind == b"sBIT" and body:
                return body[0]
    finally:
        file.seek(position)
    return None


def _png_chunks(
    file: IO[bytes], before: bytes = b"", wanted: tuple[bytes, ...] = ()
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and checksum of each chunk, or of those `wanted`; the last may be cut off, as the file is."""
    while len(head := file.read(8)) == 8 and head[4:] != before:
        length = int.from_bytes(head[:4], "big")
        if wanted and head[4:] not in wanted:
            file.seek(length + 4, 1)
        else:
            yield head[4:], file.read(length), file.read(4)


def to_rgb(frame: NDArray[np.uint8], channel_order: str | None) -> NDArray[np.uint8]:
    """Return a frame (H, W, 3 or 4) as RGB; raise ConfigError unless `channel_order` is "rgb" or "bgr"."""
    if channel_order not in ("rgb", "bgr"):
        raise ConfigError(
            f"an array {frame.shape} needs channel_order='rgb' or 'bgr' (OpenCV: 'bgr'); received {channel_order!r}"
        )
    return frame[:, :, :3] if channel_order == "rgb" else frame[:, :, 2::-1]
