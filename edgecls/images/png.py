"""PNG files: checksums of pixels, which Pillow does not compare, and metadata, for which it refuses whole files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL.PngImagePlugin import PngImageFile

from edgecls.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks whose damage changes pixels.
_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
# Optional chunks that change the pixels or the number of pictures.
_NEEDED = (b"tRNS", b"acTL", b"sBIT")
_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")


def check_png(file: IO[bytes], name: str) -> None:
    """Raise DataError if a chunk that makes pixels is damaged; the decoder notices what is missing at the end."""
    file.seek(len(SIGNATURE))
    for kind, body, checksum in _chunks(file, before=b"IEND", wanted=_CHECKED):
        if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            at = file.tell() - len(body) - 12
            found = f"the checksum of its {kind.decode()} at byte {at} is wrong"
            raise DataError(f"image {name} is damaged: {found}; replace or remove it")


def has_metadata(data: bytes) -> bool:
    """Return whether a PNG file holds EXIF, texts or a time."""
    file = io.BytesIO(data)
    file.seek(len(SIGNATURE))
    return any(kind in _METADATA for kind, _, _ in _chunks(file))


def without_metadata(file: IO[bytes]) -> IO[bytes] | None:
    """Return the file without the chunks that no pixel needs, or None if it has none.

    Pillow refuses a file for text that is too long, and for a wrong checksum of any chunk.
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    kept, dropped = [SIGNATURE], False
    for kind, body, checksum in _chunks(file):
        ancillary = bool(kind[:1].islower())
        # EXIF may hold the orientation; it is kept if it is not damaged.
        readable = kind == b"eXIf" and checksum == struct.pack(">I", zlib.crc32(kind + body))
        if ancillary and kind not in _NEEDED and not readable:
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


def stated_bits(image: PngImageFile) -> int | None:
    """Return how many bits of gray the sBIT chunk says are used; None without one, or if the file is closed already."""
    if image.fp is None:
        return None
    file, position = image.fp, image.fp.tell()
    try:
        file.seek(len(SIGNATURE))
        for kind, body, _ in _chunks(file, before=b"IDAT"):
            if kind == b"sBIT" and body:
                return body[0]
    finally:
        file.seek(position)
    return None


def _chunks(
    file: IO[bytes], before: bytes = b"", wanted: tuple[bytes, ...] = ()
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and checksum of each chunk, or of those `wanted`; the last may be cut off, as the file is."""
    while len(head := file.read(8)) == 8 and head[4:] != before:
        length = int.from_bytes(head[:4], "big")
        if wanted and head[4:] not in wanted:
            file.seek(length + 4, 1)
        else:
            yield head[4:], file.read(length), file.read(4)
