"""Finds the scans in a JPEG file and parses their headers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

EOI = 0xD9
RESTARTS = range(0xD0, 0xD8)
# Baseline, extended and progressive, with Huffman codes.
HUFFMAN = (0xC0, 0xC1, 0xC2)
PROGRESSIVE = (0xC2, 0xCA)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_TABLES, _SCAN, _INTERVAL = 0xC4, 0xDA, 0xDD
_WITHOUT_LENGTH = (0x01, 0xD8, *RESTARTS)
_MARKER = re.compile(rb"\xff[^\x00\xff]")


class Component(NamedTuple):
    """How a scan codes one component of the picture."""

    name: int
    across: int  # blocks in one MCU
    down: int
    tables: int  # of DC in the upper four bits, of AC in the lower


class Part(NamedTuple):
    """Entropy-coded data between two markers."""

    begin: int
    end: int
    marker: int  # that comes next; 0 at the end of the file
    marker_at: int


class Scan(NamedTuple):
    """One pass over the picture, as stored in the file."""

    frame: bytes  # from its marker on
    header: bytes  # without its marker and length
    interval: int  # of restart markers, in MCUs; 0 for none
    tables: bytes  # Huffman tables, one after the other
    parts: list[Part]

    @property
    def kind(self) -> int:
        """Marker of the frame."""
        return self.frame[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        height, width = struct.unpack(">HH", self.frame[4:8])
        return width, height

    @property
    def is_one_of_several(self) -> bool:
        """Whether the decoder holds the coefficients of the whole picture until the last scan."""
        return self.kind in PROGRESSIVE or self.header[0] < self.frame[8]

    @property
    def band(self) -> range:
        """Its coefficients."""
        return range(self.header[-3], self.header[-2] + 1)

    @property
    def refines(self) -> bool:
        """Whether it adds one bit to coefficients of an earlier scan."""
        return self.header[-1] > 15

    @property
    def is_final(self) -> bool:
        """Whether it holds the lowest bit of its coefficients."""
        return self.header[-1] % 16 == 0

    @property
    def components(self) -> list[Component]:
        """Its components; a single one has MCUs of one block."""
        factors = self._factors()
        alone = (1, 1) if self.header[0] == 1 else None
        pairs = zip(self.header[1:-3:2], self.header[2:-3:2], strict=True)
        return [Component(name, *(alone or factors[name]), tables) for name, tables in pairs]

    def count_parts(self) -> int:
        """Return how many parts a whole picture has."""
        if not self.interval:
            return 1
        width, height = self.size
        factors = self._factors()
        across, down = (max(own) for own in zip(*factors.values(), strict=True))
        if self.header[0] == 1:  # without the blocks that only complete an MCU
            own = factors[self.header[1]]
            width, height, across, down = -(-width * own[0] // across), -(-height * own[1] // down), 1, 1
        return -(-_blocks(width, across) * _blocks(height, down) // self.interval)

    def _factors(self) -> dict[int, tuple[int, int]]:
        return {self.frame[at]: divmod(self.frame[at + 1], 16) for at in range(9, 9 + 3 * self.frame[8], 3)}


def read_scans(data: bytes) -> Iterator[Scan]:
    """Yield the scans of the first picture of a file, up to its end marker."""
    position, interval, frame, tables = 2, 0, b"", b""
    while match := _MARKER.search(data, position):
        position = match.end()
        code = data[position - 1]
        if code == EOI:
            return
        if code in _WITHOUT_LENGTH:
            continue
        begin, position = position + 2, position + (data[position] << 8) + data[position + 1]
        if code == _TABLES:
            tables += data[begin:position]
        elif code == _INTERVAL:
            interval = int.from_bytes(data[begin:position], "big")
        elif code in _FRAMES:
            frame = data[begin - 3 : position]
        elif code == _SCAN:
            scan = Scan(frame, data[begin:position], interval, tables, _read_parts(data, position))
            yield scan
            position = scan.parts[-1].marker_at


def _blocks(pixels: int, factor: int) -> int:
    return -(-pixels // (8 * factor))


def _read_parts(data: bytes, begin: int) -> list[Part]:
    parts = []
    while True:
        match = _MARKER.search(data, begin)
        marker_at = match.start() if match else len(data)
        end, marker = marker_at, data[marker_at + 1] if match else 0
        if data[end - 1] == 0xFF:  # any number of them may come before a marker
            end = begin + len(data[begin:end].rstrip(b"\xff"))
        parts.append(Part(begin, end, marker, marker_at))
        if marker not in RESTARTS:
            return parts
        begin = marker_at + 2
