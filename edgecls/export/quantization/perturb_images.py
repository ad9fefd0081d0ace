"""Perturbs calibration images as another camera, light or position would change them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgecls.config import AugmentConfig
from edgecls.training.features.augment import change_images, draw_changes

# Fraction of the calibration images that are perturbed. Without any, slightly noisy images of clothes differed twelve
# times as much from the float model; with an eighth, clean images of clothes differed a third more.
PERTURBED_FRACTION = 1 / 16
# Far more than augmentation in training: what a board sees after the camera was moved, or in the evening.
CHANGES = AugmentConfig(flip="none", rotation=15 / 360, translation=0.05, zoom=0.1, brightness=0.2, contrast=0.4)
# Largest standard deviation of the Gaussian blur, as a fraction of the image's side.
BLUR = 2.5 / 224
# Largest standard deviation of the noise, in gray levels.
NOISE = 12.0


def perturb_some(images: NDArray[np.uint8], fraction: float, seed: int = 0) -> NDArray[np.uint8]:
    """Return a copy of `images`, uint8 (N, S, S, 1), 0..255, with a `fraction` of them perturbed."""
    chosen = np.random.default_rng(seed).permutation(len(images))[: int(len(images) * fraction)]
    result = images.copy()
    if len(chosen):
        result[chosen] = perturb(images[chosen], seed)
    return result


def perturb(images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Return `images`, uint8 (N, S, S, 1), 0..255, each moved, lit differently, blurred and noisy."""
    random = np.random.default_rng(seed)
    moved = change_images(images, draw_changes(CHANGES, images.shape[1], range(len(images)), 0, seed))
    radii = random.uniform(0, BLUR * images.shape[1], len(images))
    blurred = np.stack([_blur(image, radius) for image, radius in zip(moved, radii.tolist(), strict=True)])
    noise = random.normal(size=images.shape) * random.uniform(0, NOISE, (len(images), 1, 1, 1))
    return np.asarray(np.clip(np.round(blurred + noise), 0, 255), np.uint8)


def _blur(image: NDArray[np.uint8], radius: float) -> NDArray[np.float32]:
    blurred = Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32)[..., None]
