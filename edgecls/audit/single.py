"""Faults of single images: black or saturated exposures, blur, unusual sizes and depths, images unlike all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from edgecls.audit.material import Material
from edgecls.audit.nearest import blocks_of_nearest
from edgecls.images.archive import read_member
from edgecls.images.pillow import DECODE_ERRORS
from edgecls.images.resizing import upright_size
from edgecls.messages.numbers import percent

# Gray values.
DARK, BRIGHT = 12, 250
EMPTY_DEVIATION = 2.0
SATURATED_FRACTION = 0.5
# Robust standard deviations, of the logarithm of the sharpness and of the distance to the nearest images.
BLURRED, UNLIKE = -6.0, 6.0
_TO_DEVIATION = 1.4826  # from the median absolute deviation, for a normal distribution
# A size or kind of fewer images than this fraction is unusual.
RARE = 0.02
_NEIGHBOR = 5


@dataclass(frozen=True)
class Fault:
    """One image that may be wrong.

    Attributes:
        index: of the image.
        kind: "black", "flat", "saturated", "blurred", "size", "kind" or "unlike".
        text: what was found.
    """

    index: int
    kind: str
    text: str


def find_faults(material: Material, sizes: list[tuple[int, int, str]]) -> list[Fault]:
    """Return the images with faults, the kinds in the order in which they matter; `sizes` are of `read_sizes`."""
    faults: list[Fault] = []
    sharpness = np.zeros(len(material.paths))
    for index, image in enumerate(material.each()):
        mean, deviation = float(image.mean()), float(image.std())
        saturated = float((image >= BRIGHT).mean())
        if deviation < EMPTY_DEVIATION:
            kind = "black" if mean < DARK else "saturated" if mean > BRIGHT else "flat"
            faults.append(Fault(index, kind, f"all gray values are near {mean:.0f}"))
        elif saturated > SATURATED_FRACTION:
            faults.append(Fault(index, "saturated", f"{percent(saturated, 0)} of the pixels are white"))
        sharpness[index] = _sharpness(image) / max(deviation, 1e-3)
    known = {fault.index for fault in faults}
    faults += [
        Fault(int(index), "blurred", "far less fine structure than other images")
        for index in np.flatnonzero(_deviations(np.log(sharpness + 1e-6)) < BLURRED)
        if index not in known
    ]
    faults += list(_find_unusual(sizes))
    return faults + list(_find_unlike(material, {fault.index for fault in faults}))


def _sharpness(image: NDArray[np.uint8]) -> float:
    """Return the standard deviation of the Laplacian (Pech-Pacheco et al. 2000)."""
    gray = image.astype(np.float32)
    inner = gray[1:-1, 1:-1]
    return float((gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner).std())


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many robust standard deviations each value is above the median."""
    rest = values - np.median(values)
    result: NDArray[np.float64] = rest / max(_TO_DEVIATION * float(np.median(np.abs(rest))), 1e-6)
    return result


def read_sizes(material: Material) -> list[tuple[int, int, str]]:
    """Return width and height, upright, and Pillow's mode of each file, from its header; (0, 0, "") if it has none."""

    def read(path: str) -> tuple[int, int, str]:
        whole = material.dataset.root / path
        try:
            content = read_member(Path(whole))
            with Image.open(whole if content is None else BytesIO(content)) as image:
                # Of a PNG file, it would read all pixels.
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format == "JPEG" else 1
                return *upright_size(image.size, orientation), image.mode
        except DECODE_ERRORS:
            return 0, 0, ""

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, material.paths))


def _find_unusual(found: list[tuple[int, int, str]]) -> Iterator[Fault]:
    """Yield images of rare modes, and of rare sizes where nearly all have one size."""
    sizes, modes = Counter(each[:2] for each in found), Counter(each[2] for each in found)
    rare = max(1.0, RARE * len(found))
    usual, uses = sizes.most_common(1)[0]
    for index, (width, height, mode) in enumerate(found):
        if modes[mode] <= rare < len(found) / 2 and mode:
            yield Fault(index, "kind", f"mode {mode}; most images have {modes.most_common(1)[0][0]}")
        elif uses > (1 - RARE) * len(found) and (width, height) != usual:
            yield Fault(index, "size", f"{width} x {height} pixels; most images have {usual[0]} x {usual[1]}")


def _find_unlike(material: Material, known: set[int]) -> Iterator[Fault]:
    """Yield images whose nearest images, by features, are far away."""
    count = len(material.paths)
    if count <= 4 * _NEIGHBOR:
        return
    every = np.arange(count)
    width = material.take(every[:1]).shape[1]
    random = np.random.default_rng(1).normal(0, 1, (width, 64)).astype(np.float32)
    rows = np.concatenate([material.take(part) @ random for part in np.array_split(every, -(-count // 8192))])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    distance = np.zeros(count)
    for start, alike, nearest in blocks_of_nearest(rows, _NEIGHBOR + 1):
        own = np.arange(len(nearest))
        distance[start + own] = 1 - alike[own, nearest[:, -1]]
    deviations = _deviations(np.log(distance + 1e-6))
    for index in np.argsort(-deviations):
        if deviations[index] < UNLIKE:
            return
        if index not in known:
            yield Fault(int(index), "unlike", "unlike all other images")
