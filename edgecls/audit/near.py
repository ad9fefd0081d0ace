"""Near duplicates: copies of one photograph that were resized, compressed again, brightened or slightly cropped.

Two images are near duplicates if their own fine structure correlates: each is shrunk to 28 x 28, its blurred self is
subtracted, and so is what the images of the data set share (its first principal components, such as an outline or
stripes that all have). Brightness and contrast do not change the rest. Candidates that a crop has shifted are aligned
first (`align`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.align import FINER, SIDE, Floats, align, blur, mean_blocks, refine, shrink, unit, warp
from edgecls.audit.material import Material
from edgecls.progress import Progress, silent

# Least correlation of near duplicates, and of copies of one file, of which the finest structure correlates too. On
# 1,068 images of magnetic tiles, copies had 0.97 and more there; of other shots of a tile that reach 0.9, 5 % did.
SAME, COPY, SAME_FINEST = 0.75, 0.93, 0.965
# Principal components that are taken away; of few images they would be the images themselves.
COMPONENTS, IMAGES_A_COMPONENT = 16, 16
# Of candidates for a crop: images that each is most alike, and the least correlation of their coarse structure.
NEIGHBORS = 12
LEAST_ALIKE = 0.8
# Least correlation of their coarse structure after it; copies have more than 0.97, and more than 0.85 if the crop is
# aligned to the whole picture, of which it lacks a part.
LEAST_COARSE, LEAST_TURNED = 0.96, 0.85
# Standard deviation of the gray values below which an image has no structure to compare.
FLAT = 2.0
_BLOCK = 512
_MARGIN = 2  # pixels at the border that an alignment may lack

Own = Callable[[Floats], Floats]


def find_near(material: Material, progress: Progress = silent) -> NDArray[np.float64]:
    """Return the pairs of near duplicates, float64 (P, 4): indices of two images, the first smaller, and correlation.

    The last column is 1 for copies of one file and 0 for other shots and crops. Of images with the same pixels, each
    but the first is paired with the first one.
    """
    first: dict[bytes, int] = {}
    same = [(first.setdefault(digest, index), index) for index, digest in enumerate(material.digests)]
    small = np.stack([shrink(image) for image in material.each()])
    chosen = np.array([one for one, index in same if one == index and small[one].std() > FLAT], np.int64)
    pairs = {(one, index): 1.0 for one, index in same if one != index}
    own = _find_shared(small[chosen])
    for start, found, neighbors in _compare(unit(own(small[chosen])).reshape(len(chosen), -1)):
        for row, column, value in found:
            pairs[int(chosen[row]), int(chosen[column])] = value
        rows = np.repeat(np.arange(start, start + len(neighbors)), neighbors.shape[1])
        candidates = np.sort(np.stack([chosen[rows], chosen[neighbors.ravel()]], 1))
        for one, other, value in _find_crops(material, small, candidates, own, pairs):
            pairs[one, other] = value
        progress("compare images", start + len(neighbors), len(chosen))
    listed = np.array([(*pair, value) for pair, value in sorted(pairs.items())], np.float64).reshape(-1, 3)
    return np.column_stack([listed, _are_copies(material, listed)])


def _are_copies(material: Material, pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for each pair whose finest structure is the same too, else 0; another shot has noise of its own."""
    digests = material.digests
    result = np.array([digests[int(one)] == digests[int(other)] for one, other in pairs[:, :2]], np.float64)
    chosen = np.flatnonzero((pairs[:, 2] >= COPY) & (result == 0))
    for part in np.array_split(chosen, -(-len(chosen) // _BLOCK)) if len(chosen) else ():
        ones, others = (
            np.stack([_finest(material.pixels(int(index))) for index in pairs[part, side]]) for side in (0, 1)
        )
        result[part] = (unit(ones) * unit(others)).sum((1, 2)) >= SAME_FINEST
    return result


def _finest(image: NDArray[np.uint8]) -> Floats:
    """Return what a picture of 84 x 84 pixels has more than one of 28 x 28."""
    fine = shrink(image, FINER * SIDE)
    return fine - np.kron(mean_blocks(fine[np.newaxis])[0], np.ones((FINER, FINER), np.float32))


def _compare(fine: Floats) -> Iterator[tuple[int, list[tuple[int, int, float]], NDArray[np.int64]]]:
    """Yield the start of each block of images, its pairs that are alike, and the nearest images, int64 (rows, K)."""
    count = min(NEIGHBORS, len(fine) - 1)
    for start in range(0, len(fine) if count > 0 else 0, _BLOCK):
        alike = fine[start : start + _BLOCK] @ fine.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -2
        found = [
            (start + int(row), int(column), float(alike[row, column]))
            for row, column in np.argwhere(alike >= SAME)
            if start + row < column
        ]
        yield start, found, np.argpartition(-alike, count - 1, axis=1)[:, :count]


def _find_shared(images: Floats) -> Own:
    """Return a function that takes the blurred image, and what `images` share, away from images (N, 28, 28)."""
    fine = unit(images - blur(blur(images))).reshape(len(images), -1)
    count = min(COMPONENTS, len(images) // IMAGES_A_COMPONENT)
    mean = fine.mean(0) if count else np.zeros(SIDE * SIDE, np.float32)
    _, vectors = np.linalg.eigh((fine - mean).T @ (fine - mean))
    shared = vectors[:, SIDE * SIDE - count :]

    def own(others: Floats) -> Floats:
        rest = unit(others - blur(blur(others))).reshape(len(others), -1) - mean
        result: Floats = (rest - (rest @ shared) @ shared.T).reshape(others.shape)
        return result

    return own


def _find_crops(
    material: Material,
    small: Floats,
    candidates: NDArray[np.int64],
    own: Own,
    known: dict[tuple[int, int], float],
) -> Iterator[tuple[int, int, float]]:
    """Yield the candidates, int64 (P, 2), that are more alike after alignment than they are known to be."""
    found = {(one, other) for one, other in candidates.tolist() if known.get((one, other), 0) < COPY}
    new = np.array(sorted(found), np.int64).reshape(-1, 2)
    coarse = [unit(blur(blur(small[new[:, side]]))) for side in (0, 1)]
    alike = (coarse[0] * coarse[1]).sum((1, 2)) > LEAST_ALIKE
    if alike.any():
        for one, other, value in _align_pairs(material, small, new[alike], own):
            if value > known.get((one, other), 0):
                yield one, other, value


def _align_pairs(
    material: Material, small: Floats, pairs: NDArray[np.int64], own: Own
) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs, int64 (P, 2), that are alike after alignment, with their correlation."""
    found, coarse = align(small[pairs[:, 0]], small[pairs[:, 1]])
    kept = coarse >= LEAST_TURNED
    if not kept.any():
        return
    # The crop shows less: it is the target, onto which the other one is enlarged.
    turned = found[kept, ::2].mean(1) > 0
    images, targets = (np.where(turned, pairs[kept, 1 - k], pairs[kept, k]) for k in (0, 1))
    found, coarse = align(small[images], small[targets])
    kept = coarse >= LEAST_COARSE
    images, targets, found = images[kept], targets[kept], found[kept]
    if not len(images):
        return
    found = refine(small[images], small[targets], found)
    fine, goal = (
        np.stack([shrink(material.pixels(index), FINER * SIDE) for index in each.tolist()])
        for each in (images, targets)
    )
    inner = slice(_MARGIN, -_MARGIN)
    moved, aim = (unit(own(mean_blocks(each))[:, inner, inner]) for each in (warp(fine, found), goal))
    values = (moved * aim).sum((1, 2))
    for index in np.flatnonzero(values >= SAME):
        one, other = sorted((int(images[index]), int(targets[index])))
        yield one, other, float(values[index])
