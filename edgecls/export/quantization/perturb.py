"""Calibration images as another camera, light or place might have given them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgecls.config import AugmentConfig
from edgecls.training.features.augment import change_images, draw_changes

# Share of the images that int8 is prepared for which are changed. With none, clothes with some noise differed twelve
# times as much from the float model; with an eighth, clothes as they are did by a third.
VARIED = 1 / 16
# Far more than training changes them: what a board sees after the camera was moved, or in the evening.
CHANGES = AugmentConfig(flip="none", rotation=15 / 360, translation=0.05, zoom=0.1, brightness=0.2, contrast=0.4)
# Out of focus by up to so many pixels, as a share of the image's side: the deviation of a Gaussian.
BLUR = 2.5 / 224
# The noise of an image has a deviation of up to so many gray levels.
NOISE = 12.0


def vary_some(images: NDArray[np.uint8], share: float, seed: int = 0) -> NDArray[np.uint8]:
    """Return `images`, uint8 (N, S, S, 1), 0..255, a `share` of them changed as `vary` does."""
    chosen = np.random.default_rng(seed).permutation(len(images))[: int(len(images) * share)]
    varied = images.copy()
    if len(chosen):
        varied[chosen] = vary(images[chosen], seed)
    return varied


def vary(images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Return `images`, uint8 (N, S, S, 1), 0..255, each turned, lit otherwise, out of focus and noisy."""
    random = np.random.default_rng(seed)
    moved = change_images(images, draw_changes(CHANGES, images.shape[1], range(len(images)), 0, seed))
    radii = random.uniform(0, BLUR * images.shape[1], len(images))
    blurred = np.stack([_blur(image, radius) for image, radius in zip(moved, radii.tolist(), strict=True)])
    noise = random.normal(size=images.shape) * random.uniform(0, NOISE, (len(images), 1, 1, 1))
    return np.asarray(np.clip(np.round(blurred + noise), 0, 255), np.uint8)


def _blur(image: NDArray[np.uint8], radius: float) -> NDArray[np.float32]:
    """Return an image (S, S, 1), 0..255, out of focus."""
    blurred = Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32)[..., None]
