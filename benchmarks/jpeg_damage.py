"""Damage JPEG files in every way that storage does, and print how much of it is refused.

    python benchmarks/jpeg_damage.py [FOLDER of images] [--files 40]

Without a folder, the pictures are made here: text, gradients, noise, flat areas and textures. Each is encoded in each
way of `ENCODINGS`. A damaged file that decodes to the same pixels does not count. Exits with 1 if an undamaged file is
refused.
"""

from __future__ import annotations

import argparse
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgecls.errors import DataError
from edgecls.images.decode import load_gray

ENCODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimized": {"optimize": True},
    "4:4:4": {"subsampling": 0},
    "restart each row": {"restart_marker_rows": 1},
    "restart each 7 blocks": {"restart_marker_blocks": 7},
    "progressive": {"progressive": True},
}
Damage = Callable[[bytes, int, int, random.Random, bytes], bytes]


def _fill(byte: int) -> Damage:
    return lambda data, at, size, rng, other: data[:at] + bytes([byte]) * len(data[at : at + size]) + data[at + size :]


def _noise(data: bytes, at: int, size: int, rng: random.Random, other: bytes) -> bytes:
    return data[:at] + rng.randbytes(len(data[at : at + size])) + data[at + size :]


def _other(data: bytes, at: int, size: int, rng: random.Random, other: bytes) -> bytes:
    start = rng.randrange(700, max(len(other) - size, 701))
    return data[:at] + other[start : start + size] + data[at + size :]


def _repeat(data: bytes, at: int, size: int, rng: random.Random, other: bytes) -> bytes:
    return data[:at] + data[max(at - size, 0) :][: len(data[at : at + size])] + data[at + size :]


def _flip(data: bytes, at: int, size: int, rng: random.Random, other: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


DAMAGE: dict[str, Damage] = {
    "bytes 0x00": _fill(0),
    "bytes 0xFF": _fill(0xFF),
    "bytes 0x55": _fill(0x55),
    "random bytes": _noise,
    "bytes of another file": _other,
    "bytes repeated": lambda data, at, size, rng, other: (data[:at] + data[max(at - size, 0) : at] + data[at + size :])[
        : len(data)
    ],
    "bytes missing": lambda data, at, size, rng, other: data[:at] + data[at + size :],
    "end is 0x00": lambda data, at, size, rng, other: data[:at] + bytes(len(data) - at),
    "end is missing": lambda data, at, size, rng, other: data[:at],
    "one bit": _flip,
}


def synthetic() -> Iterator[Image.Image]:
    """Yield pictures of many kinds, gray and color."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:480, :640]
    yield Image.fromarray((x * 255 // 639).astype(np.uint8))
    yield Image.fromarray(rng.integers(0, 256, (480, 640, 3), np.uint8))
    yield Image.fromarray(np.stack([x % 256, y % 256, (x * y) % 256], 2).astype(np.uint8))
    yield Image.fromarray(((x // 8 + y // 8) % 2 * 255).astype(np.uint8))
    for noise in (2, 10, 40):
        waves = 128 + 60 * np.sin(x / 23) * np.cos(y / 31) + rng.normal(0, noise, x.shape)
        yield Image.fromarray(waves.clip(0, 255).astype(np.uint8))
    for lines in (5, 30):
        page = Image.new("RGB", (1200, 900), "white")
        draw = ImageDraw.Draw(page)
        for line in range(lines):
            draw.text((20, 20 + 28 * line), "The quick brown fox jumps over the lazy dog. " * 3, fill=(0, 0, line))
        yield page


def _encode(picture: Image.Image, quality: int, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def _pixels(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return load_gray(data, 224, 224)
    except DataError:
        return None


def _measure(files: list[tuple[str, bytes]], rng: random.Random) -> tuple[Counter[tuple[str, ...]], list[str]]:
    counts: Counter[tuple[str, ...]] = Counter()
    alarms = []
    for position, (encoding, data) in enumerate(files):
        clean = _pixels(data)
        if clean is None:
            alarms.append(f"{encoding}, file {position}")
            continue
        scan = data.find(b"\xff\xda")
        for kind, damage in DAMAGE.items():
            for size in (512, 4096, 65536):
                if len(data) - scan < 1.5 * size:
                    continue
                at = rng.randrange(scan + 14, len(data) - size // 3)
                if rng.random() < 0.5 and scan < at // 512 * 512:
                    at = at // 512 * 512  # where a sector begins
                damaged = damage(data, at, size, rng, rng.choice(files)[1])
                pixels = _pixels(damaged)
                outcome = "refused" if pixels is None else "same" if (pixels == clean).all() else "missed"
                counts[kind, str(size), outcome] += 1
                counts[kind, encoding, outcome] += 1
    return counts, alarms


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=40)
    chosen = parser.parse_args()
    rng = random.Random(1)
    pictures = list(synthetic())
    if chosen.folder:
        paths = sorted(path for path in chosen.folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
        pictures = [Image.open(path) for path in rng.sample(paths, min(chosen.files, len(paths)))]
    files = [
        (encoding, _encode(picture, quality, options))
        for picture in pictures
        for quality in (50, 75, 90, 98)
        for encoding, options in ENCODINGS.items()
    ]
    counts, alarms = _measure(files, rng)
    columns = ("512", "4096", "65536", *ENCODINGS)
    print("| damage, % refused | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for kind in DAMAGE:
        row = []
        for column in columns:
            refused, missed = counts[kind, column, "refused"], counts[kind, column, "missed"]
            row.append(f"{100 * refused / (refused + missed):.1f} of {refused + missed}" if refused + missed else "")
        print(f"| {kind} | " + " | ".join(row) + " |")
    print(f"\n{len(files)} undamaged files, {len(alarms)} refused: {alarms[:5]}")
    raise SystemExit(bool(alarms))


if __name__ == "__main__":
    main()
