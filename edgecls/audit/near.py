"""Near duplicates: copies of one photograph that were resized, compressed again, brightened or slightly cropped.

Two images are near duplicates if their own fine structure correlates: each is shrunk to 28 x 28, its blurred self is
subtracted, and so is what the images of the data set share (its first principal components, such as an outline or
stripes that all have). Brightness and contrast do not change the rest. Candidates that a crop has shifted are aligned
first (Lucas and Kanade 1981, with a shift and a scale for each axis).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.audit.material import Material
from edgecls.progress import Progress, silent

SIDE = 28
# Least correlation of near duplicates, and of copies of one file, which other shots of the same object rarely reach.
SAME, COPY = 0.75, 0.93
# Principal components that are taken away; of few images they would be the images themselves.
COMPONENTS, IMAGES_A_COMPONENT = 16, 16
# Of candidates for a crop: neighbors of each image by its features, and their least correlation before alignment.
NEIGHBORS = 12
LEAST_ALIKE = 0.8
# Standard deviation of the gray values below which an image has no structure to compare.
FLAT = 2.0
_PROJECTED = 192
_BLOCK = 512
_STEPS = 6
_MARGIN = 2  # pixels at the border that an alignment may lack
_KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16

Floats = NDArray[np.float32]
Own = Callable[[Floats], Floats]


def find_near(material: Material, progress: Progress = silent) -> NDArray[np.float64]:
    """Return the pairs of near duplicates, float64 (P, 3): indices of two images, the first smaller, and correlation.

    Of images with the same pixels, each but the first is paired with the first one.
    """
    first: dict[bytes, int] = {}
    same = [(first.setdefault(digest, index), index) for index, digest in enumerate(material.digests)]
    small = np.stack([_shrink(image) for image in material.each()])
    chosen = np.array([one for one, index in same if one == index and small[one].std() > FLAT], np.int64)
    pairs = {(one, index): 1.0 for one, index in same if one != index}
    own = _find_shared(small[chosen])
    fine = _unit(own(small[chosen])).reshape(len(chosen), -1)
    for start in range(0, len(chosen), _BLOCK):
        alike = fine[start : start + _BLOCK] @ fine.T
        for row, column in np.argwhere(alike >= SAME):
            if start + row < column:
                pairs[int(chosen[start + row]), int(chosen[column])] = float(alike[row, column])
        progress("compare images", min(start + _BLOCK, len(chosen)), len(chosen))
    for one, other, value in _find_crops(material, small, chosen, own, pairs):
        pairs[one, other] = value
    found = [(one, other, value) for (one, other), value in sorted(pairs.items())]
    return np.array(found, np.float64).reshape(-1, 3)


def _find_shared(images: Floats) -> Own:
    """Return a function that takes the blurred image, and what `images` share, away from images (N, 28, 28)."""
    fine = _unit(images - _blur(_blur(images))).reshape(len(images), -1)
    count = min(COMPONENTS, len(images) // IMAGES_A_COMPONENT)
    mean = fine.mean(0) if count else np.zeros(SIDE * SIDE, np.float32)
    _, vectors = np.linalg.eigh((fine - mean).T @ (fine - mean))
    shared = vectors[:, SIDE * SIDE - count :]

    def own(others: Floats) -> Floats:
        rest = _unit(others - _blur(_blur(others))).reshape(len(others), -1) - mean
        result: Floats = (rest - (rest @ shared) @ shared.T).reshape(others.shape)
        return result

    return own


def _shrink(image: NDArray[np.uint8]) -> Floats:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)


def _blur(images: Floats) -> Floats:
    for axis in (1, 2):
        width = [(0, 0)] * 3
        width[axis] = (2, 2)
        padded = np.pad(images, width, mode="reflect")
        images = np.zeros_like(images)
        for offset, weight in enumerate(_KERNEL):
            images += weight * np.take(padded, range(offset, offset + SIDE), axis)
    return images


def _unit(images: Floats) -> Floats:
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    result: Floats = (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).reshape(images.shape)
    return result


def _find_crops(
    material: Material, small: Floats, chosen: NDArray[np.int64], own: Own, known: dict[tuple[int, int], float]
) -> Iterator[tuple[int, int, float]]:
    """Yield pairs that are alike after alignment, among neighbors by features that are not known yet."""
    blurred = _unit(_blur(_blur(small)))
    for rows, neighbors in _nearest(material, chosen):
        ones, others = np.repeat(rows, neighbors.shape[1]), neighbors.ravel()
        ones, others = np.minimum(ones, others), np.maximum(ones, others)
        alike = (blurred[ones] * blurred[others]).sum((1, 2))
        keep = [
            index
            for index in np.flatnonzero(alike > LEAST_ALIKE)
            if (int(ones[index]), int(others[index])) not in known
        ]
        if not keep:
            continue
        ones, others = ones[keep], others[keep]
        values = np.maximum(_aligned(small[ones], small[others], own), _aligned(small[others], small[ones], own))
        for index in np.flatnonzero(values >= SAME):
            yield int(ones[index]), int(others[index]), float(values[index])


def _nearest(material: Material, chosen: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (images, their nearest images by features, (len, NEIGHBORS)), block by block."""
    if len(chosen) < 2:
        return
    width = material.take(chosen[:1]).shape[1]
    random = np.random.default_rng(0).normal(0, 1, (width, _PROJECTED)).astype(np.float32)
    projected = np.concatenate(
        [material.take(chosen[start : start + 8192]) @ random for start in range(0, len(chosen), 8192)]
    )
    projected -= projected.mean(0)
    projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-6)
    count = min(NEIGHBORS, len(chosen) - 1)
    for start in range(0, len(chosen), _BLOCK):
        alike = projected[start : start + _BLOCK] @ projected.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -2
        yield chosen[start : start + _BLOCK], chosen[np.argpartition(-alike, count - 1, axis=1)[:, :count]]


def _aligned(images: Floats, targets: Floats, own: Own) -> Floats:
    """Return the correlation of the fine structure of each image, aligned to its target, with that of the target."""
    moved = _warp(images, _align(_blur(_blur(images)), _blur(_blur(targets))))
    inner = slice(_MARGIN, -_MARGIN)
    one, other = (_unit(own(each)[:, inner, inner]) for each in (moved, targets))
    result: Floats = (one * other).sum((1, 2))
    return result


def _align(images: Floats, targets: Floats) -> Floats:
    """Return scale and shift along x and y, float32 (N, 4), that bring each image closest to its target."""
    count, grid = len(images), np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    found, goal = np.zeros((count, 4), np.float32), _unit(targets)
    for _ in range(_STEPS):
        moved = _warp(images, found)
        norm = np.linalg.norm((moved - moved.mean((1, 2), keepdims=True)).reshape(count, -1), axis=1)
        down, right = (each / np.maximum(norm, 1e-6)[:, None, None] for each in np.gradient(moved, axis=(1, 2)))
        slopes = np.stack([right * grid, right, down * grid[:, None], down], -1).reshape(count, -1, 4)
        slopes -= slopes.mean(1, keepdims=True)
        rest = (goal - _unit(moved)).reshape(count, -1, 1)
        turned = slopes.transpose(0, 2, 1)
        found += np.linalg.solve(turned @ slopes + 1e-5 * np.eye(4, dtype=np.float32), turned @ rest)[..., 0]
        found[:, ::2] = np.clip(found[:, ::2], -0.15, 0.15)
        found[:, 1::2] = np.clip(found[:, 1::2], -0.1 * SIDE, 0.1 * SIDE)
    return found


def _warp(images: Floats, found: Floats) -> Floats:
    """Return the images, scaled and shifted about their middle."""
    center, rows = (SIDE - 1) / 2, np.arange(len(images))[:, None]
    for scale, shift in ((2, 3), (0, 1)):
        place = center + (np.arange(SIDE) - center) * (1 + found[:, scale, None]) + found[:, shift, None]
        place = np.clip(place, 0, SIDE - 1.001)
        lower = place.astype(np.int64)
        weight = (place - lower).astype(np.float32)[..., None]
        # Along y first, then along x with both axes exchanged.
        images = (images[rows, lower] * (1 - weight) + images[rows, lower + 1] * weight).transpose(0, 2, 1)
    return images
