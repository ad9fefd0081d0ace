"""Finds which of the pairs of similar images are an image and a crop of it: they are aligned and compared again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.align import (
    FINER,
    SIDE,
    Floats,
    Own,
    align,
    blur_twice,
    correlate,
    mean_blocks,
    refine,
    shrink,
    unit,
    warp,
)
from edgecls.audit.material import Material

# Least correlation of a crop and its image after alignment. Crops by up to 5 % at each side had 0.98 and more, but for
# one of 32.
ALIGNED = 0.93
# The same before the alignment is refined.
ROUGHLY_ALIGNED = 0.5
# Least correlation of the coarse structure of an image and a crop of it before they are aligned; 0.93 was seen.
LEAST_ALIKE = 0.9
# After alignment; copies have more than 0.97, and more than 0.85 if the crop is aligned to the whole picture, of which
# it lacks a part.
LEAST_COARSE, LEAST_TURNED = 0.94, 0.85
_MARGIN = 2  # pixels at the border that an alignment may lack
_INNER = slice(_MARGIN, -_MARGIN)


def find_crops(
    material: Material, chosen: NDArray[np.int64], small: Floats, own: Own, pairs: NDArray[np.int64]
) -> list[tuple[tuple[int, int], float]]:
    """Return the pairs that are an image and a crop of it, with the correlation after alignment.

    Args:
        material: the images.
        chosen: int64 (N,), which of them are compared.
        small: these, float32 (N, 28, 28).
        own: takes away what all images share.
        pairs: int64 (P, 2), indices of `chosen`, the first smaller.
    """
    alike = pairs[correlate(blur_twice, small, pairs) > LEAST_ALIKE]
    return list(_align_pairs(material, chosen, small, own, alike))


def _align_pairs(
    material: Material, chosen: NDArray[np.int64], small: Floats, own: Own, pairs: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], float]]:
    found, coarse = align(small[pairs[:, 0]], small[pairs[:, 1]])
    # The crop shows less: it is the target, onto which the other one is enlarged.
    turned = found[:, ::2].mean(1) > 0
    images, targets = (np.where(turned, pairs[:, 1 - k], pairs[:, k]) for k in (0, 1))
    found[turned], again = align(small[images[turned]], small[targets[turned]])
    kept = np.where(turned, coarse >= LEAST_TURNED, coarse >= LEAST_COARSE)
    kept[turned] &= again >= LEAST_COARSE
    kept[kept] = _correlate(own, warp(small[images[kept]], found[kept]), small[targets[kept]]) >= ROUGHLY_ALIGNED
    images, targets, found = images[kept], targets[kept], found[kept]
    if not len(images):
        return
    found = refine(small[images], small[targets], found)
    fine, goal = (
        np.stack([shrink(material.pixels(int(index)), FINER * SIDE) for index in chosen[each]])
        for each in (images, targets)
    )
    values = _correlate(own, mean_blocks(warp(fine, found)), mean_blocks(goal))
    for index in np.flatnonzero(values >= ALIGNED):
        one, other = sorted((int(images[index]), int(targets[index])))
        yield (one, other), float(values[index])


def _correlate(own: Own, ones: Floats, others: Floats) -> Floats:
    moved, aim = (unit(own(each)[:, _INNER, _INNER]) for each in (ones, others))
    result: Floats = (moved * aim).sum((1, 2))
    return result
