"""The files of one folder of the feature cache: rows, and the image of each row, with checksums.

`rows.f16` holds one row of float16 for each image, and `images.index` one `_ENTRY` for each in the same order. Both are
only appended to; after a crash, rows that are not complete in both are cut off.

Rows are checked before they are used, as a disk or another program may change them. A row's checksum depends on folder,
shape and image, so a misplaced row is found too. If anything is wrong, the features are computed again; the files are
removed, not overwritten, because other processes may have mapped them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.files import read_json, write_atomically

ROWS_FILE, INDEX_FILE, SHAPE_FILE = "rows.f16", "images.index", "shape.json"
FORMAT = 2
# sha256 of the image, checksum of its row, checksum of the two.
_ENTRY = struct.Struct("<32sII")
# Rows reach the disk before their entries, this many images at a time.
IMAGES_A_FLUSH = 1024


class DamagedCacheError(OSError):
    """A file of the cache was changed after it was written."""


@dataclass(frozen=True)
class Stored:
    """The complete rows of a folder: their number and shape, the row of each image, and the checksum of each row."""

    rows: int
    shape: tuple[int, ...]
    row_of: dict[bytes, int]
    checksums: list[int]


_NOTHING = Stored(0, (), {}, [])


def read_checked(folder: Path, wanted: set[bytes], report: Callable[[str], object]) -> Stored:
    """Return the rows of a folder, after checking those of the images `wanted`; none if the folder is damaged.

    Args:
        folder: of one network and copy.
        wanted: sha256 of each image whose row will be used.
        report: called with a description of the damage.
    """
    try:
        stored = read_stored(folder)
        _check_rows(folder, stored, wanted & stored.row_of.keys())
    except DamagedCacheError as error:
        report(f"{folder} is damaged ({error}), so these features are computed again")
        stored = _NOTHING
    if not stored.rows:
        # Not truncated, because another process may have mapped them.
        for name in (INDEX_FILE, ROWS_FILE, SHAPE_FILE):
            (folder / name).unlink(missing_ok=True)
    return stored


def read_stored(folder: Path) -> Stored:
    """Return the rows of a folder without reading them.

    Raises:
        DamagedCacheError: a file was changed.
    """
    if not (folder / INDEX_FILE).exists():
        return _NOTHING
    shape = _read_shape(folder / SHAPE_FILE)
    start, index = _start_checksum(folder, shape), (folder / INDEX_FILE).read_bytes()
    rows = len(index) // _ENTRY.size
    row_of, checksums = {}, []
    for row, (digest, checksum, check) in enumerate(_ENTRY.iter_unpack(index[: rows * _ENTRY.size])):
        if check != _entry_checksum(start, digest, checksum):
            raise DamagedCacheError(f"{INDEX_FILE} at image {row}")
        row_of[digest] = row
        checksums.append(checksum)
    # A killed process leaves rows without an entry, never an entry without its row.
    size, expected = _size(folder / ROWS_FILE), rows * _row_bytes(shape)
    if size < expected:
        raise DamagedCacheError(f"{ROWS_FILE} has {size} bytes, {expected} expected")
    return Stored(rows, shape, row_of, checksums)


def _read_shape(path: Path) -> tuple[int, ...]:
    try:
        shape = read_json(path)
    except ValueError as error:
        raise DamagedCacheError(f"{SHAPE_FILE}: {error}") from error
    if not isinstance(shape, list) or not shape or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise DamagedCacheError(f"{SHAPE_FILE} holds {shape!r:.80}")
    return tuple(shape)


def _check_rows(folder: Path, stored: Stored, wanted: set[bytes]) -> None:
    if not wanted:
        return
    start = _start_checksum(folder, stored.shape)
    row_bytes = _row_bytes(stored.shape)
    # Read, not mapped: a disk that fails then raises an error instead of ending the process.
    with (folder / ROWS_FILE).open("rb") as file:
        for digest in sorted(wanted, key=stored.row_of.__getitem__):
            file.seek(stored.row_of[digest] * row_bytes)
            if _row_checksum(start, digest, file.read(row_bytes)) != stored.checksums[stored.row_of[digest]]:
                raise DamagedCacheError(f"{ROWS_FILE} at image {stored.row_of[digest]}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _row_bytes(shape: tuple[int, ...]) -> int:
    return np.dtype(np.float16).itemsize * math.prod(shape)


def _start_checksum(folder: Path, shape: tuple[int, ...]) -> int:
    return zlib.crc32(f"{folder.name} {shape}".encode())


def _row_checksum(start: int, digest: bytes, row: bytes | memoryview) -> int:
    return zlib.crc32(row, zlib.crc32(digest, start))


def _entry_checksum(start: int, digest: bytes, checksum: int) -> int:
    return zlib.crc32(checksum.to_bytes(4, "little"), zlib.crc32(digest, start))


class Writer:
    """Appends rows and, when they are on the disk, their entries."""

    def __init__(self, rows: Any, index: Any, start: int) -> None:
        self._rows, self._index, self._start = rows, index, start
        self._waiting: list[bytes] = []

    def append(self, rows: NDArray[np.float16], digests: list[bytes]) -> None:
        """Append rows and the sha256 of their images."""
        # Not by `tofile`, which does not say why it could not write.
        self._rows.write(np.ascontiguousarray(rows).data)
        for row, digest in zip(rows, digests, strict=True):
            checksum = _row_checksum(self._start, digest, row.tobytes())
            self._waiting.append(_ENTRY.pack(digest, checksum, _entry_checksum(self._start, digest, checksum)))
        if len(self._waiting) >= IMAGES_A_FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write everything to the disk."""
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self._index.write(b"".join(self._waiting))
        self._index.flush()
        os.fsync(self._index.fileno())
        self._waiting = []


@contextlib.contextmanager
def open_writer(folder: Path, known: int, row: NDArray[np.float16]) -> Iterator[Writer]:
    """Yield a writer that appends to the first `known` rows of a folder; all rows have the shape of `row`."""
    write_atomically(folder / SHAPE_FILE, json.dumps(row.shape).encode())
    with (folder / ROWS_FILE).open("ab") as rows, (folder / INDEX_FILE).open("ab") as index:
        # Cut off what a killed process left incomplete.
        rows.truncate(known * row.nbytes)
        index.truncate(known * _ENTRY.size)
        writer = Writer(rows, index, _start_checksum(folder, row.shape))
        try:
            yield writer
        finally:
            writer.flush()
