"""Decodes JPEG files with Pillow's decoder, and refuses damaged ones.

A JPEG file has no checksum, and the decoder reports no damage: it decodes damaged data to wrong blocks and invents
missing ones. But damaged data hardly ever decodes to the same number of blocks. So the data of each scan, and between
two restart markers, must end where the last block does. Pillow does not report that position; it is found by feeding
the decoder in steps: while blocks are missing, it leaves the bytes of an incomplete block; afterwards it takes every
byte up to the next marker.
"""

from __future__ import annotations

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from edgecls.errors import DataError
from edgecls.images.jpeg_runs import find_lost_block
from edgecls.images.jpeg_scans import EOI, HUFFMAN, RESTARTS, Part, Scan, read_scans

# Decoded at 1/8, 23170 x 23170 give 9 million pixels; few rows are held at a time. It takes 5 s on a laptop.
MAX_PIXELS = 512 * 1024 * 1024
# Progressive files: the decoder holds 2 bytes for each of up to 3 values a pixel until the last scan, 384 MiB.
MAX_PIXELS_SEVERAL_SCANS = 64 * 1024 * 1024
# Some cameras write up to four bytes after the last block.
_SURPLUS = 4
# The decoder reads up to 8 bytes ahead. No table has a code of ones only, so they do not decode to a missing block.
_READ_AHEAD = b"\xff\x00" * 8
# A check takes as long as decoding 500 bytes. Losses are longer than most smaller parts, and destroy markers.
_WORTH_A_CHECK = 1024
_ONE_BYTE = b"\xff\x00"
_END = bytes([0xFF, EOI])


class _Decoder:
    """Pillow's decoder of one file; `position` is the first byte that it has not consumed."""

    def __init__(self, image: JpegImageFile, data: bytes) -> None:
        self.picture = Image.new(image.mode, image.size)
        self.data = data
        self._view = memoryview(data)
        self.position = 0
        self.finished = False
        self._decoder = Image._getdecoder(image.mode, "jpeg", image.tile[0][3], image.decoderconfig)
        self._decoder.setimage(self.picture.im, (0, 0, *image.size))

    def take(self, data: bytes | memoryview) -> int:
        taken, error = self._decoder.decode(data)
        if error < 0:
            raise OSError("broken data stream")
        self.finished = taken < 0
        return len(data) if self.finished else int(taken)

    def is_complete_at(self, end: int) -> bool:
        """Feed up to `end`, and return whether no block of this part is missing there."""
        if self.finished:
            return True
        self.position += self.take(self._view[self.position : end])
        if self.finished or self.position < end:
            return self.finished
        # A complete block looks the same. One more byte tells: a block that begins makes the decoder read ahead.
        step = 2 if self.data[end] == 0xFF else 1
        taken = self.take(self._view[end : end + step])
        self.position += taken
        return taken == step

    def is_complete_with_marker(self, end: int) -> bool:
        """Feed up to the marker at `end`, and return whether no block of this part is missing."""
        if self.finished:
            return True
        rest = self.data[self.position : end] + _READ_AHEAD
        complete = self.take(rest) == len(rest) and (self.finished or self.take(_ONE_BYTE) == len(_ONE_BYTE))
        self.position = end
        return complete


def load(image: JpegImageFile, name: str) -> Image.Image:
    """Return the picture as `image.load()` decodes it, at the scale that `image.draft()` has set.

    Args:
        image: the opened file, not yet loaded.
        name: of the file, for the error.

    Raises:
        DataError: the data cannot be those of a whole picture.
        OSError: the decoder failed. Damaged headers may raise other builtin errors.
    """
    if any(0 in table for table in image.quantization.values()):
        raise _damaged(name, "a quantization table holds a zero")
    assert image.fp is not None  # None only after Pillow has loaded the image
    image.fp.seek(0)
    data = image.fp.read()
    decoder = _Decoder(image, data)
    scans: list[Scan] = []
    for scan in read_scans(data):
        scans.append(scan)
        _check_size(scan, name)
        _check_scan(decoder, scan, name)
        if decoder.finished:
            return decoder.picture
    if not (scans and (scans[-1].parts[-1].marker == EOI or _are_all(scans, len(image.layer)))):
        raise _damaged(name, "it ends before its last scan")
    decoder.take(data[decoder.position :] + _END)
    if not decoder.finished:
        raise _damaged(name, "it has no complete picture")
    return decoder.picture


def _are_all(scans: list[Scan], components: int) -> bool:
    """Return whether the scans hold the lowest bit of every coefficient."""
    final = {(each.name, at) for scan in scans if scan.is_final for each in scan.components for at in scan.band}
    return len(final) == 64 * components


def _check_size(scan: Scan, name: str) -> None:
    most = MAX_PIXELS_SEVERAL_SCANS if scan.is_one_of_several else MAX_PIXELS
    width, height = scan.size
    if width * height > most:
        kind = "progressive JPEG" if scan.is_one_of_several else "JPEG"
        found = f"{width} x {height} pixels; at most {most} of a {kind} are read"
        raise DataError(f"image {name} has {found}: make it smaller")


def _check_scan(decoder: _Decoder, scan: Scan, name: str) -> None:
    if lost := find_lost_block(decoder.data, scan):
        at, length = lost
        raise _damaged(name, f"its picture data has {length} bytes of 0x{decoder.data[at]:02X} in a row at byte {at}")
    wanted = scan.count_parts()
    for number, part in enumerate(scan.parts[: wanted - 1]):
        if part.marker != RESTARTS[number % 8]:
            raise _damaged(name, f"restart marker {number + 1} of {wanted - 1} is not at byte {part.marker_at}")
    if scan.kind not in HUFFMAN:
        return  # arithmetic codes cannot be decoded in steps
    for number, part in enumerate(scan.parts[:wanted], start=1):
        if number == wanted or part.end - part.begin >= _WORTH_A_CHECK:
            _check_part(decoder, part, name)


def _check_part(decoder: _Decoder, part: Part, name: str) -> None:
    """Feed the data up to a marker; raise DataError if the last block ends before or after them."""
    filled = part.end  # where padding begins: some cameras add zeros
    if part.end > part.begin and not decoder.data[part.end - 1]:
        filled = part.begin + len(decoder.data[part.begin : part.end].rstrip(b"\0"))
    for end in sorted({filled - _SURPLUS - 1, part.end - _SURPLUS - 1}):
        while decoder.data[end - 1] == 0xFF:
            end -= 1
        if end > part.begin and decoder.is_complete_at(end):
            raise _damaged(name, f"its picture data goes on after its last block, before byte {end}")
        if end < filled + 8 < part.end - _SURPLUS and decoder.is_complete_at(filled + 8):
            break
    if not decoder.is_complete_with_marker(part.end):
        raise _damaged(name, f"its picture data ends at byte {part.end}, before its last block")


def _damaged(name: str, found: str) -> DataError:
    return DataError(f"image {name} is damaged: {found}; replace or remove it")
