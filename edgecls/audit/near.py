"""Near duplicates: copies of one photograph that were resized, compressed again, brightened or slightly cropped.

Two images are near duplicates if their own fine structure correlates: each is shrunk to 28 x 28, its blurred self is
subtracted, and so is what the images of the data set share (its first principal components, such as an outline or
stripes that all have). Brightness and contrast do not change the rest. How much must correlate depends on how much
other images do that are merely similar. The images that each is most alike are also compared at lower resolutions
(`resolution`), and aligned, as they may be crops (`crops`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.align import FINER, SIDE, Floats, Own, blur_twice, correlate, mean_blocks, shrink, unit
from edgecls.audit.crops import find_crops
from edgecls.audit.material import Material
from edgecls.audit.names import clusters
from edgecls.audit.nearest import BLOCK, blocks_of_nearest, project
from edgecls.audit.resolution import compare_lower
from edgecls.boards.cpus import allowed_cpus
from edgecls.progress import Progress, silent

# Least correlation of near duplicates, and of copies of one file, of which the finest structure correlates too. On
# 1,068 images of magnetic tiles, copies had 0.97 and more there; of other shots of a tile that reach 0.9, 5 % did.
SAME, COPY, SAME_FINEST = 0.75, 0.93, 0.965
# Of two images of which nothing was taken away. On tiles and clothing, all such pairs were found otherwise too; stripes
# that are merely alike had up to 0.988.
SAME_WHOLE = 0.989
# Below COPY, a near duplicate lacks at most this part of what the twelfth nearest image lacks of a correlation of 1. On
# 4,000 pieces of clothing, this left all resized and compressed copies, and 67 of 343 pairs that are merely similar.
STANDS_OUT, CROWD = 0.4, 12
# Principal components that are taken away; of few images they would be the images themselves.
COMPONENTS, IMAGES_A_COMPONENT = 16, 16
# The most alike images, by so many principal components of the fine structure, and of the features: a crop keeps these.
STRUCTURES, FEATURES, NEIGHBORS = 192, 64, 3
# Pairs of one image.
MOST_PAIRS = 100
# What these components may lack of the correlation; they rarely lack 0.002.
SLACK = 0.01
# Least correlation of the coarse structure of an image and its copy of lower resolution; 0.997 and more were seen.
LEAST_COARSE = 0.99
# Standard deviation of the gray values below which an image has no structure to compare.
FLAT = 2.0

Pairs = NDArray[np.int64]  # (P, 2): indices of two images, the first smaller


def find_near(material: Material, progress: Progress = silent) -> NDArray[np.float64]:
    """Return the pairs of near duplicates, float64 (P, 4): indices of two images, the first smaller, and correlation.

    The last column is 1 for copies of one file and 0 for other shots and crops. Of images with the same pixels, each is
    paired with the first one of each split and class.
    """
    same: dict[bytes, list[int]] = {}
    for index, digest in enumerate(material.digests):
        same.setdefault(digest, []).append(index)
    small = np.stack([shrink(image) for image in material.each()])
    chosen = np.array([one for one, *_ in same.values() if small[one].std() > FLAT], np.int64)
    found = {(one, one): 1.0 for one, *_ in same.values()}
    if len(chosen) > 1:
        for (one, other), value in _compare(material, chosen, small[chosen], progress).items():
            found[int(chosen[one]), int(chosen[other])] = value
    pairs = _spread(found, material, {indices[0]: indices for indices in same.values()})
    listed = np.array([(*pair, value) for pair, value in sorted(pairs.items())], np.float64).reshape(-1, 3)
    return np.column_stack([listed, _are_copies(material, listed)])


def _spread(
    found: Mapping[tuple[int, int], float], material: Material, same: Mapping[int, list[int]]
) -> dict[tuple[int, int], float]:
    """Return the pairs of pictures as pairs of images, with their correlation.

    Each image is paired with the first one of each split and class that has the other picture, so that none is missed
    that stands in another split or has another label; all pairs of hundreds of equal frames would be too many.

    Args:
        found: pairs of the first images of two pictures, or of one.
        material: the images.
        same: the first image of a picture -> all images of it.
    """
    firsts = {
        one: list({(int(material.parts[i]), int(material.labels[i])): i for i in reversed(indices)}.values())
        for one, indices in same.items()
    }
    pairs: dict[tuple[int, int], float] = {}
    for (one, other), value in found.items():
        for pair in (*itertools.product(same[one], firsts[other]), *itertools.product(firsts[one], same[other])):
            if pair[0] != pair[1]:
                pairs[min(pair), max(pair)] = value
    return pairs


def _compare(
    material: Material, chosen: NDArray[np.int64], small: Floats, progress: Progress
) -> dict[tuple[int, int], float]:
    """Return the pairs of near duplicates among the images `chosen`, by their places there, with their correlation."""
    features = _find_nearest(material.take(chosen), progress)
    # What many frames of one scene share is not what all images share: one of them is enough.
    scenes = clusters(len(small), list(_find_identical(small, features)))
    own = _find_shared(small[np.unique(scenes)])
    fine = unit(own(small)).reshape(len(small), -1)
    likely, nearest, limits = _find_alike(fine, progress)
    candidates = _unique(nearest, features)
    found: dict[tuple[int, int], float] = {}
    for pairs in _split(likely):
        values = (fine[pairs[:, 0]] * fine[pairs[:, 1]]).sum(1)
        _add(found, _keep(pairs, values, limits).items())
    for pairs in _split(nearest):
        ones, others = (pairs := pairs[correlate(blur_twice, small, pairs) >= LEAST_COARSE]).T
        both = compare_lower(small[ones], fine[others], own), compare_lower(small[others], fine[ones], own)
        _add(found, _keep(pairs, np.maximum(*both), limits).items())
    search = functools.partial(find_crops, material, chosen, small, own)
    with ThreadPoolExecutor(len(allowed_cpus())) as pool:
        for _ in range(2):
            _add(found, _find_identical(small, candidates).items())
            unsure = [pair for pair in map(tuple, candidates.tolist()) if found.get(pair, 0.0) < COPY]
            parts, done = _split(np.array(unsure, np.int64).reshape(-1, 2)), 0
            for part, crops in zip(parts, pool.map(search, parts), strict=True):
                _add(found, crops)
                progress("align pairs", done := done + len(part), len(unsure))
            # Of many crops of one image, each has some of the others among its nearest images.
            candidates = _find_siblings(found, candidates)
    return found


def _add(found: dict[tuple[int, int], float], others: Iterable[tuple[tuple[int, int], float]]) -> None:
    """Add other pairs to those that were found; a pair keeps its highest correlation."""
    for pair, value in others:
        found[pair] = max(value, found.get(pair, 0.0))


def _find_identical(small: Floats, candidates: Pairs) -> dict[tuple[int, int], float]:
    """Return the pairs that are alike although nothing was taken away from them, with their correlation."""
    result: dict[tuple[int, int], float] = {}
    for pairs in _split(candidates):
        values = correlate(lambda images: images - blur_twice(images), small, pairs)
        enough = values >= SAME_WHOLE
        result |= dict(zip(map(tuple, pairs[enough].tolist()), values[enough].tolist(), strict=True))
    return result


def _find_siblings(found: Iterable[tuple[int, int]], known: Pairs) -> Pairs:
    """Return the pairs of images that have a near duplicate in common, without those that are found or known."""
    others: dict[int, list[int]] = {}
    for one, other in found:
        others.setdefault(one, []).append(other)
        others.setdefault(other, []).append(one)
    siblings = {pair for each in others.values() for pair in itertools.combinations(sorted(each)[:CROWD], 2)}
    return np.array(sorted(siblings - set(found) - set(map(tuple, known.tolist()))), np.int64).reshape(-1, 2)


def _find_alike(fine: Floats, progress: Progress) -> tuple[Pairs, Pairs, Floats]:
    """Return (pairs that may be alike enough, pairs of nearest images, least correlation of each image's pairs)."""
    limits = np.full(len(fine), SAME, np.float32)
    likely: list[Pairs] = []
    nearest: list[Pairs] = []
    for start, alike, order in blocks_of_nearest(project(fine, STRUCTURES), CROWD):
        rows = np.arange(start, start + len(order))
        if len(fine) > CROWD:
            others = (fine[rows] * fine[order[:, -1]]).sum(1)
            limits[rows] = np.clip(1 - STANDS_OUT * (1 - others), SAME, COPY)
        likely.append(_list_alike(alike, limits[rows] - SLACK) + np.array([start, 0]))
        nearest.append(_pair(rows, order[:, :NEIGHBORS]))
        progress("compare images", int(rows[-1]) + 1, len(fine))
    return _unique(*likely), _unique(*nearest), limits


def _list_alike(alike: Floats, limits: Floats) -> Pairs:
    """Return (row, column) of the products, float32 (B, N), that reach the limits; of a row the highest at most."""
    enough = alike >= limits[:, np.newaxis]
    # Of thousands of frames of one still scene, every pair would be alike.
    for row in np.flatnonzero(enough.sum(1) > MOST_PAIRS):
        enough[row] = False
        enough[row, np.argpartition(-alike[row], MOST_PAIRS)[:MOST_PAIRS]] = True
    return np.argwhere(enough)


def _find_nearest(features: Floats, progress: Progress) -> Pairs:
    """Return the pairs of images of which one has the nearest features of the other."""
    pairs = []
    for start, _, order in blocks_of_nearest(project(features, FEATURES), NEIGHBORS):
        rows = np.arange(start, start + len(order))
        pairs.append(_pair(rows, order))
        progress("compare features", int(rows[-1]) + 1, len(features))
    return _unique(*pairs)


def _pair(rows: NDArray[np.int64], others: NDArray[np.int64]) -> Pairs:
    return np.stack([np.repeat(rows, others.shape[1]), others.ravel()], 1)


def _unique(*pairs: NDArray[np.int64]) -> Pairs:
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _split(pairs: Pairs) -> list[Pairs]:
    return np.array_split(pairs, -(-len(pairs) // (8 * BLOCK))) if len(pairs) else []


def _keep(pairs: Pairs, values: NDArray[Any], limits: Floats) -> dict[tuple[int, int], float]:
    """Return the pairs whose correlation reaches the limits of both images."""
    enough = values >= limits[pairs].max(1)
    return dict(zip(map(tuple, pairs[enough].tolist()), values[enough].tolist(), strict=True))


def _are_copies(material: Material, pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for each pair whose finest structure is the same too, else 0; another shot has noise of its own."""
    digests = material.digests
    result = np.array([digests[int(one)] == digests[int(other)] for one, other in pairs[:, :2]], np.float64)
    chosen = np.flatnonzero((pairs[:, 2] >= COPY) & (result == 0))
    for part in np.array_split(chosen, -(-len(chosen) // BLOCK)) if len(chosen) else ():
        ones, others = (
            np.stack([_finest(material.pixels(int(index))) for index in pairs[part, side]]) for side in (0, 1)
        )
        result[part] = (unit(ones) * unit(others)).sum((1, 2)) >= SAME_FINEST
    return result


def _finest(image: NDArray[np.uint8]) -> Floats:
    """Return what a picture of 84 x 84 pixels has more than one of 28 x 28."""
    fine = shrink(image, FINER * SIDE)
    return fine - np.kron(mean_blocks(fine[np.newaxis])[0], np.ones((FINER, FINER), np.float32))


def _find_shared(images: Floats) -> Own:
    """Return a function that takes the blurred image, and what `images` share, away from images (N, 28, 28)."""
    fine = unit(images - blur_twice(images)).reshape(len(images), -1)
    count = min(COMPONENTS, len(images) // IMAGES_A_COMPONENT)
    mean = fine.mean(0) if count else np.zeros(SIDE * SIDE, np.float32)
    _, vectors = np.linalg.eigh((fine - mean).T @ (fine - mean))
    shared = vectors[:, SIDE * SIDE - count :]

    def own(others: Floats) -> Floats:
        rest = unit(others - blur_twice(others)).reshape(len(others), SIDE * SIDE) - mean
        result: Floats = (rest - (rest @ shared) @ shared.T).reshape(others.shape)
        return result

    return own
