"""Finds runs of one byte in the data of a JPEG scan: lost blocks of a disk or of flash memory look like that.

Real data has such runs too, where equal blocks of a few bits repeat in every byte, as on a white page. So a run counts
as lost only if its byte, decoded with the file's own codes, does not give such blocks.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from edgecls.images.jpeg_scans import HUFFMAN, PROGRESSIVE, Scan

# Photographs and noise have runs of at most 10 bytes.
_SHORTEST = 72
# Refining scans have zeros for equal blocks; encoders write at most 125 bytes of them before another code. Arithmetic
# coding needs hardly a byte for hundreds of equal blocks.
_SHORTEST_OTHER = 256
_STEP = 32
# Equal blocks of more bits repeat a byte only by chance, 1 in 256 for each further byte.
_BITS = 16


def find_lost_block(data: bytes, scan: Scan) -> tuple[int, int] | None:
    """Return the position and the length of a run of one byte that no picture explains, or None."""
    begin, end = scan.parts[0].begin, scan.parts[-1].end
    if end > begin and not data[end - 1]:  # some cameras add zeros
        end = begin + len(data[begin:end].rstrip(b"\0"))
    words = np.frombuffer(data, "<u8", max(end - begin, 0) // 8, begin)[:: _STEP // 8]
    for at in np.flatnonzero(words[1:] == words[:-1]).tolist():
        start, length = _measure_run(data, begin + at * _STEP, begin, end)
        if length >= _SHORTEST and not _is_explained(data[start], length, scan):
            return start, length
    return None


def _measure_run(data: bytes, at: int, begin: int, end: int) -> tuple[int, int]:
    """Return the position and the length of the run of one byte around a position."""
    byte = data[at : at + 1]
    start = begin + len(data[begin:at].rstrip(byte))
    return start, end - start - len(data[start:end].lstrip(byte))


def _is_explained(byte: int, length: int, scan: Scan) -> bool:
    if byte == 0xFF:
        return False
    if scan.kind not in HUFFMAN:  # arithmetic codes of a texture repeat other bytes, and zeros in progressive files
        return byte != 0 or length < _SHORTEST_OTHER or scan.kind in PROGRESSIVE
    if scan.refines and (byte or not scan.band.start or length < _SHORTEST_OTHER):
        return True  # one bit of each coefficient, which repeats where blocks are alike
    codes = _read_codes(scan.tables)
    bits = f"{byte:08b}"
    return any(_repeats(bits[phase:] + bits[:phase], scan, codes) for phase in range(8))


def _repeats(bits: str, scan: Scan, codes: dict[int, dict[str, int]]) -> bool:
    """Return whether endlessly repeated `bits` are MCUs of few bits a block, from the start of an MCU."""
    blocks = [each.tables for each in scan.components for _ in range(each.across * each.down)]
    stream, position = bits * (_BITS * len(blocks)), 0
    try:
        for tables in blocks * 8:  # after 8 MCUs of any length, the next begins at the same bit of a byte
            if scan.band.start == 0:
                size, position = _read_symbol(stream, position, codes[tables >> 4])
                position += size
            if scan.band.stop > 1:
                position = _skip_coefficients(stream, position, codes[0x10 | tables & 15], scan)
    # No such code, the end of the stream, or a table that Motion JPEG omits, with which equal blocks repeat no byte.
    except KeyError:
        return False
    return True


def _skip_coefficients(stream: str, position: int, codes: dict[str, int], scan: Scan) -> int:
    at = max(scan.band.start, 1)
    while at < scan.band.stop:
        symbol, position = _read_symbol(stream, position, codes)
        zeros, size = divmod(symbol, 16)
        if size == 0 and zeros < 15:  # end of the block, or of 2 ** zeros blocks and more
            return position + zeros
        position += size
        at += zeros + 1
    return position


def _read_symbol(stream: str, position: int, codes: dict[str, int]) -> tuple[int, int]:
    for end in range(position + 1, position + 17):
        if (symbol := codes.get(stream[position:end])) is not None:
            return symbol, end
    raise KeyError(stream[position : position + 16])


def _read_codes(tables: bytes) -> dict[int, dict[str, int]]:
    """Return the codes of each Huffman table: text of 0 and 1 -> symbol."""
    found: dict[int, dict[str, int]] = {}
    while tables:
        kind, counts, symbols = tables[0], tables[1:17], iter(tables[17:])
        code, codes = 0, found.setdefault(kind, {})
        codes.clear()  # a later table replaces an earlier one
        for length, count in enumerate(counts, start=1):
            for symbol in islice(symbols, count):
                codes[f"{code:0{length}b}"] = symbol
                code += 1
            code <<= 1
        tables = bytes(symbols)
    return found
