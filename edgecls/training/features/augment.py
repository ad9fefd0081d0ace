"""Random changes to training images; the result is uint8, as on the board.

What happens to an image depends on the seed, the number of the copy and the image itself, never from its place in a
batch: so a copy can be computed once, kept, and computed again elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig

# What "auto" stands for where nothing was measured.
HORIZONTAL = ("horizontal", "horizontal_and_vertical", "auto")


@dataclass(frozen=True, eq=False)
class Changes:
    """What is done to each of N images.

    Attributes:
        transforms: float32 (N, 8): where in the image each pixel of the result comes from, as TensorFlow's
            ImageProjectiveTransformV3 takes it.
    """

    transforms: NDArray[np.float32]
    contrast: NDArray[np.float32]  # float32 (N,), factor around the image's own mean
    brightness: NDArray[np.float32]  # float32 (N,), added, in gray levels


def draw_changes(config: AugmentConfig, size: int, keys: Sequence[int], copy: int, seed: int) -> Changes:
    """Return random changes for images of `size` pixels, one for each key.

    Args:
        config: how far they may go.
        size: side of the square images.
        keys: what tells the images apart, each at least 0; the same key, copy and seed give the same change.
        copy: number of the copy, or of the epoch.
        seed: of the run.
    """
    drawn = _draw(keys, copy, seed)
    flip_x, flip_y, turn, shift_x, shift_y, zoom, contrast, brightness = drawn.T
    sign_x = np.where(flip_x < 0, -1.0, 1.0) if config.flip in HORIZONTAL else 1.0
    sign_y = np.where(flip_y < 0, -1.0, 1.0) if config.flip in ("vertical", "horizontal_and_vertical") else 1.0
    angle = turn * config.rotation * 2 * np.pi
    scale = 1 + zoom * config.zoom
    center = (size - 1) / 2
    a, b = np.cos(angle) * scale * sign_x, -np.sin(angle) * scale * sign_y
    c, d = np.sin(angle) * scale * sign_x, np.cos(angle) * scale * sign_y
    # Turned and zoomed about the middle of the picture, then shifted.
    x0 = center - (a + b) * center + shift_x * config.translation * size
    y0 = center - (c + d) * center + shift_y * config.translation * size
    nothing = np.zeros(len(drawn))
    return Changes(
        np.stack([a, b, x0, c, d, y0, nothing, nothing], 1).astype(np.float32),
        (1 + contrast * config.contrast).astype(np.float32),
        (brightness * config.brightness * 255).astype(np.float32),
    )


def draw_mirrored(keys: Sequence[int], copy: int, seed: int) -> NDArray[np.bool_]:
    """Return which copies a horizontal flip mirrors, bool (N,); for the arguments, see `draw_changes`."""
    result: NDArray[np.bool_] = _draw(keys, copy, seed)[:, 0] < 0
    return result


def _draw(keys: Sequence[int], copy: int, seed: int) -> NDArray[np.float64]:
    return np.stack([np.random.default_rng([seed, copy, key]).uniform(-1, 1, 8) for key in keys])


def find_borders(changes: Changes, size: int) -> NDArray[np.float64]:
    """Return where the border of each image lies in its changed copy: float64 (N, 4, 2), x and y of its corners.

    0..1 are the sides of the copy of `size` pixels; beyond its own border, the copy shows the image mirrored.
    """
    a, b, x0, c, d, y0 = changes.transforms[:, :6].T.astype(np.float64)
    edges = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]])
    # The transforms lead from the copy to the image.
    moved = edges[None] - np.stack([x0, y0], 1)[:, None]
    back = np.linalg.inv(np.stack([np.stack([a, b], 1), np.stack([c, d], 1)], 1))
    found: NDArray[np.float64] = (np.einsum("nij,nkj->nki", back, moved) + 0.5) / size
    return found


def describe_augmentation(config: AugmentConfig) -> str:
    """Return what is done to a copy, with the options of `edgecls train`, in one sentence; "" if nothing is."""
    parts = {
        f"--flip {config.flip}": config.flip != "none",
        f"--rotation {config.rotation:g} (up to {config.rotation * 360:.1f}° either way)": config.rotation,
        f"--translation {config.translation:g} (of the side)": config.translation,
        f"--zoom {config.zoom:g}": config.zoom,
        f"--brightness {config.brightness:g} (of white)": config.brightness,
        f"--contrast {config.contrast:g}": config.contrast,
    }
    return ", ".join(part for part, is_used in parts.items() if is_used)


def change_images(images: NDArray[np.uint8], changes: Changes) -> NDArray[np.uint8]:
    """Return changed images, uint8 (N, S, S, 1), 0..255.

    What moves into the picture at the borders is the picture mirrored, so that no black wedge appears that only
    training images have. Turn, zoom, shift and mirror are one interpolation, not one after the other.
    """
    import tensorflow as tf

    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=changes.transforms,
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    mean = tf.reduce_mean(moved, axis=(1, 2, 3), keepdims=True)
    each = (-1, 1, 1, 1)
    changed = (moved - mean) * tf.reshape(changes.contrast, each) + mean + tf.reshape(changes.brightness, each)
    result: NDArray[np.uint8] = tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8).numpy()
    return result
