"""Brings a picture onto another one that may be a crop of it, by a scale and a shift for each axis.

Lucas and Kanade 1981, on pictures of 28 x 28 pixels, from coarse to fine structure. The picture is then sampled again
from one of 84 x 84, as a second resize of the small one would blur it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 28
# Pixels along a side of the finer picture for each of the small one.
FINER = 3
# Steps of the alignment with blurred, less blurred and full structure.
_STEPS = (6, 3, 3)
_MOST_SCALE, _MOST_SHIFT = 0.15, 0.1 * SIDE

Floats = NDArray[np.float32]
Own = Callable[[Floats], Floats]


def _blur_matrix() -> Floats:
    """Return what blurs a row of 28 pixels, float32 (28, 28); the row is mirrored at its ends."""
    padded = np.pad(np.eye(SIDE), [(2, 2), (0, 0)], mode="reflect")
    taps = enumerate((1, 4, 6, 4, 1))
    rows = [weight / 16 * padded[offset : offset + SIDE] for offset, weight in taps]
    result: Floats = np.sum(rows, axis=0).astype(np.float32)
    return result


_BLUR = _blur_matrix()


def shrink(image: NDArray[np.uint8], side: int = SIDE) -> Floats:
    """Return the picture, uint8 (H, W), as float32 (side, side)."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR), np.float32)


def blur(images: Floats) -> Floats:
    """Return the images (N, 28, 28) without their finest structure."""
    result: Floats = (_BLUR @ images @ _BLUR.T).astype(np.float32, copy=False)
    return result


def blur_twice(images: Floats) -> Floats:
    """Return the coarse structure of the images (N, 28, 28)."""
    return blur(blur(images))


def unit(images: Floats) -> Floats:
    """Return each image with a mean of 0 and a norm of 1; the sum of the product of two is their correlation."""
    # Not -1: there may be no image.
    flat = images.reshape(len(images), images.shape[1] * images.shape[2])
    flat = flat - flat.mean(1, keepdims=True)
    result: Floats = (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).reshape(images.shape)
    return result


def correlate(change: Own, images: Floats, pairs: NDArray[np.int64]) -> Floats:
    """Return the correlation, float32 (P,), of the changed images of each pair, int64 (P, 2)."""
    ones, others = (unit(change(images[pairs[:, side]])) for side in (0, 1))
    result: Floats = (ones * others).sum((1, 2))
    return result


def align(images: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Return scale and shift along x and y, float32 (N, 4), that bring each image closest to its target.

    Also return the correlation of their coarse structure then, float32 (N,).
    """
    # Blurred so much, a quarter of the pixels says as much.
    coarse, goal = (mean_blocks(blur_twice(each), 2) for each in (images, targets))
    found = _improve(coarse, goal, np.zeros((len(images), 4), np.float32), _STEPS[0])
    return found, (unit(warp(coarse, found)) * unit(goal)).sum((1, 2))


def refine(images: Floats, targets: Floats, found: Floats) -> Floats:
    """Return the result of `align` improved by finer structure."""
    found = _improve(blur(images), blur(targets), found, _STEPS[1])
    return _improve(images, targets, found, _STEPS[2])


def _improve(images: Floats, targets: Floats, found: Floats, steps: int) -> Floats:
    count, side = images.shape[:2]
    grid, pixel = np.arange(side, dtype=np.float32) - (side - 1) / 2, np.float32(side / SIDE)
    goal = unit(targets)
    for _ in range(steps):
        moved = warp(images, found)
        norm = np.linalg.norm((moved - moved.mean((1, 2), keepdims=True)).reshape(count, side * side), axis=1)
        down, right = (each / np.maximum(norm, 1e-6)[:, None, None] for each in np.gradient(moved, axis=(1, 2)))
        slopes = np.stack([right * grid, right * pixel, down * grid[:, None], down * pixel], -1)
        slopes = slopes.reshape(count, side * side, 4)
        slopes -= slopes.mean(1, keepdims=True)
        rest = (goal - unit(moved)).reshape(count, side * side, 1)
        turned = slopes.transpose(0, 2, 1)
        found = found + np.linalg.solve(turned @ slopes + 1e-5 * np.eye(4, dtype=np.float32), turned @ rest)[..., 0]
        found[:, ::2] = np.clip(found[:, ::2], -_MOST_SCALE, _MOST_SCALE)
        found[:, 1::2] = np.clip(found[:, 1::2], -_MOST_SHIFT, _MOST_SHIFT)
    return found


def warp(images: Floats, found: Floats) -> Floats:
    """Return images, float32 (N, S, S), scaled and shifted about their middle; shifts are in pixels of a side of 28."""
    side, rows = images.shape[1], np.arange(len(images))[:, None]
    center = (side - 1) / 2
    for scale, shift in ((2, 3), (0, 1)):
        moved = found[:, shift, None] * (side / SIDE)
        place = center + (np.arange(side) - center) * (1 + found[:, scale, None]) + moved
        place = np.clip(place, 0, side - 1.001)
        lower = place.astype(np.int64)
        weight = (place - lower).astype(np.float32)[..., None]
        # Along y first, then along x with both axes exchanged.
        images = (images[rows, lower] * (1 - weight) + images[rows, lower + 1] * weight).transpose(0, 2, 1)
    return images


def mean_blocks(images: Floats, block: int = FINER) -> Floats:
    """Return images, float32 (N, S, S), as (N, S / block, S / block); the default block makes 28 of 84 pixels."""
    side = images.shape[1] // block
    result: Floats = images.reshape(len(images), side, block, side, block).mean((2, 4))
    return result
