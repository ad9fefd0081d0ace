"""Compares how notebooks resize images with the pixel path of edgecls, on labeled training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import count_flips, mcnemar_p
from edgecls.images.decode import decode_gray

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Resizing:
    """The accuracy of one way to resize, on training images.

    Attributes:
        name: of the way.
        accuracy: 0..1.
        p_value: of the difference from the pixel path of edgecls (McNemar).
    """

    name: str
    accuracy: float
    p_value: float

    def is_better_than(self, accuracy: float) -> bool:
        """Return whether it is significantly better than the pixel path with this accuracy."""
        return self.accuracy > accuracy and self.p_value < SIGNIFICANT


def load_as_notebooks(root: Path, paths: Sequence[str], size: int, bits: int | None) -> dict[str, NDArray[np.uint8]]:
    """Return the images, uint8 (N, S, S, 1), as keras.utils.image_dataset_from_directory resizes them.

    Bilinear without antialiasing, by default to the square, with crop_to_aspect_ratio after cropping, and with
    pad_to_aspect_ratio after padding with black.
    """
    import tensorflow as tf

    found: dict[str, list[NDArray[np.uint8]]] = {"stretched": [], "cropped": [], "padded": []}
    for path in paths:
        gray = np.asarray(decode_gray(root / path, bits), np.float32)[..., None]
        height, width = gray.shape[:2]
        crop, pad = min(height, width), max(height, width)
        top, left = (height - crop) // 2, (width - crop) // 2
        above, before = (pad - height) // 2, (pad - width) // 2
        ways = {
            "stretched": gray,
            "cropped": gray[top : top + crop, left : left + crop],
            "padded": np.pad(gray, ((above, pad - height - above), (before, pad - width - before), (0, 0))),
        }
        for name, image in ways.items():
            resized = tf.image.resize(image, (size, size), method="bilinear", antialias=False).numpy()
            found[name].append(np.clip(np.round(resized), 0, 255).astype(np.uint8))
    return {name: np.stack(images) for name, images in found.items()}


def compare_resizing(
    ways: Mapping[str, NDArray[np.uint8]],
    judge: Callable[[NDArray[np.uint8]], NDArray[np.bool_]],
    own_hits: NDArray[np.bool_],
) -> tuple[Resizing, ...]:
    """Return the accuracy of each way to resize, and its difference from the pixel path's.

    Args:
        ways: what `load_as_notebooks` returned.
        judge: returns which images are labeled correctly, bool (N,).
        own_hits: the same of the pixel path.
    """
    found = []
    for name, pixels in ways.items():
        hits = judge(pixels)
        found.append(Resizing(name, float(hits.mean()), mcnemar_p(*count_flips(own_hits, hits))))
    return tuple(found)
