"""Writes edgecls/demo_data/fashion-mnist.zip: a small part of Fashion-MNIST as class folders of PNG files.

Reads the four files of Debian's package `dataset-fashion-mnist` (or of github.com/zalandoresearch/fashion-mnist).
The result depends on those files and zlib alone: the choice is by sha256, the PNG files are written here.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).resolve().parent.parent / "edgecls" / "demo_data" / "fashion-mnist.zip"
# The order of the labels 0..9 in the data set.
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
# As many images a class as keep the ZIP below 1,000,000 bytes, three to one.
PARTS = (("train", "train", 120), ("test", "t10k", 40))
SEED = 0
# The oldest moment that a ZIP can hold.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)

Image = npt.NDArray[np.uint8]


def read_idx(path: Path, header_bytes: int) -> Image:
    """Return the values of one .gz file as uint8 (all of them,), without its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)


def choose(part: str, labels: Image, label: int, count: int) -> list[int]:
    """Return `count` positions of images with this label in ascending order, always the same ones."""
    positions = [int(position) for position in np.flatnonzero(labels == label)]
    positions.sort(key=lambda position: hashlib.sha256(f"{SEED}/{part}/{position}".encode()).digest())
    return sorted(positions[:count])


def filter_rows(image: Image, kind: int) -> bytes:
    """Return the rows of an image uint8 (H, W) under PNG filter `kind` (0..4), each behind its filter byte."""
    pixels = image.astype(np.int16)
    padded = np.pad(pixels, ((1, 0), (1, 0)))
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    nearest = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    guess = (np.zeros_like(pixels), left, up, (left + up) // 2, nearest)[kind]
    rows = ((pixels - guess) % 256).astype(np.uint8)
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=kind).tobytes()


def deflate(data: bytes, strategy: int) -> bytes:
    """Return the data as a zlib stream."""
    compressor = zlib.compressobj(level=9, memLevel=9, strategy=strategy)
    return compressor.compress(data) + compressor.flush()


def encode_png(image: Image) -> bytes:
    """Return the smallest 8-bit gray PNG of an image uint8 (H, W) that one filter and one strategy give."""
    height, width = image.shape
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)
    streams = [deflate(filter_rows(image, kind), strategy) for kind in range(5) for strategy in strategies]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", min(streams, key=len)), (b"IEND", b"")):
        png += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png


def build(source: Path, target: Path) -> None:
    """Write the ZIP: PART/CLASS/NUMBER.png, NUMBER being the position in the official part."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for part, prefix, count in PARTS:
            images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
            labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 8)
            for label, name in enumerate(CLASSES):
                for position in choose(part, labels, label, count):
                    member = zipfile.ZipInfo(f"{part}/{name}/{position:05}.png", TIMESTAMP)
                    member.external_attr = 0o644 << 16
                    # ZipInfo takes this from the machine otherwise; 3 is Unix.
                    member.create_system = 3
                    archive.writestr(member, encode_png(images[position]))


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=SOURCE, help="the four .gz files (default: %(default)s)")
    parser.add_argument("--target", type=Path, default=TARGET, help="the ZIP to write (default: %(default)s)")
    arguments = parser.parse_args()
    build(arguments.source, arguments.target)
    print(f"{arguments.target}: {arguments.target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
