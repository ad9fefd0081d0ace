"""PNG files: what stands beside the pixels, which Pillow overlooks or refuses whole pictures for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL.PngImagePlugin import PngImageFile

from edgecls.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Of the chunks that a decoder may skip, those that change which pixels it gives, or how many pictures there are.
_NEEDED = (b"tRNS", b"acTL", b"sBIT")


def without_metadata(file: IO[bytes]) -> IO[bytes] | None:
    """Return the file without the chunks that no pixel needs, or None if there are none to leave out.

    Pillow refuses a file for text that is too long, and for a wrong checksum of anything.
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    kept, dropped = [SIGNATURE], False
    for kind, body, checksum in _chunks(file):
        ancillary = bool(kind[:1].islower())
        # The turn of a camera is believed where it is whole.
        readable = kind == b"eXIf" and checksum == struct.pack(">I", zlib.crc32(kind + body))
        if ancillary and kind not in _NEEDED and not readable:
            dropped = True
        else:
            kept.append(struct.pack(">I", len(body)) + kind + body + checksum)
    return io.BytesIO(b"".join(kept)) if dropped else None


def key_factor(image: PngImageFile, name: str) -> int:
    """Return what the transparent gray of a picture that is not loaded must be multiplied with.

    Pillow scales gray of 2 and 4 bits to 8 and forgets the transparent color; old releases do so with 1 bit too.

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


def _chunks(file: IO[bytes], before: bytes = b"") -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and checksum of each chunk; the last one may be cut off, as the file is."""
    while len(head := file.read(8)) == 8 and head[4:] != before:
        length = int.from_bytes(head[:4], "big")
        # Pillow's errors name what is wrong with the rest.
        yield head[4:], file.read(length), file.read(4)
