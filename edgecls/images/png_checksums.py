"""The checksums of a PNG file's pixels, which Pillow does not compare: damaged pixels would pass as others."""

from __future__ import annotations

import struct
import zlib
from typing import IO

from edgecls.errors import DataError

# Not those of texts, times and the like: who has the pixels can do without.
_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")


def check_png(file: IO[bytes], name: str) -> None:
    """Raise DataError if a chunk that makes pixels is damaged; leave what is missing at the end to the decoder."""
    position = file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind in _CHECKED:
            content, checksum = file.read(length), file.read(4)
            if len(checksum) == 4 and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
                raise DataError(
                    f"image {name} is damaged: the checksum of its {kind.decode()} at byte {position} is wrong; "
                    "replace or remove it"
                )
        position = file.seek(position + 12 + length)
