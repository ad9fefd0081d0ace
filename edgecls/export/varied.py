"""Calibration images as another camera, light or place might have given them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgecls.config import AugmentConfig
from edgecls.training.augment import change_images, draw_changes

# Far more than training changes them: what a board sees after the camera was moved, or in the evening.
CHANGES = AugmentConfig(flip="none", rotation=15 / 360, translation=0.05, zoom=0.1, brightness=0.2, contrast=0.4)
# Out of focus by up to so many pixels, as a share of the image's side: the deviation of a Gaussian.
BLUR = 2.5 / 224
# The noise of an image has a deviation of up to so many gray levels.
NOISE = 12.0


def vary_half(images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Return `images`, uint8 (N, S, S, 1), 0..255, half of them turned, lit otherwise, out of focus and noisy."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(images))[: len(images) // 2]
    if not len(chosen):
        return images
    changes = draw_changes(CHANGES, images.shape[1], chosen.tolist(), 0, seed)
    moved = change_images(images[chosen], changes)
    radii = random.uniform(0, BLUR * images.shape[1], len(chosen))
    changed = np.stack([_blur(image, radius) for image, radius in zip(moved, radii.tolist(), strict=True)])
    deviation = random.uniform(0, NOISE, (len(chosen), 1, 1, 1))
    varied = images.copy()
    varied[chosen] = np.clip(np.round(changed + random.normal(size=changed.shape) * deviation), 0, 255)
    return varied


def _blur(image: NDArray[np.uint8], radius: float) -> NDArray[np.float32]:
    """Return an image (S, S, 1), 0..255, out of focus."""
    blurred = Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32)[..., None]
