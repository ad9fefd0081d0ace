"""Random changes to training images, as Keras layers. The result is uint8 again: the board never sees anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecls.config import AugmentConfig

if TYPE_CHECKING:
    import tensorflow as tf


def build_augmentation(config: AugmentConfig, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from images uint8 (N, H, W, 1), 0..255, to changed images of the same shape and type.

    Every image of a batch is changed differently; the same seed gives the same sequence of changes. What moves into
    the picture at the borders is the picture mirrored (Keras' fill_mode="reflect"), so that no black wedge appears
    that only training images have.
    """
    import tensorflow as tf
    from keras import layers

    shift, full = config.translation, (0, 255)
    every: dict[str, Callable[[], layers.Layer]] = {
        # Two layers, as Keras' own "horizontal_and_vertical" draws once for both: two of the four pictures never come.
        "horizontal": lambda: layers.RandomFlip("horizontal", seed=seed),
        "vertical": lambda: layers.RandomFlip("vertical", seed=seed + 6),
        "rotation": lambda: layers.RandomRotation(config.rotation, seed=seed + 1),
        "translation": lambda: layers.RandomTranslation(shift, shift, seed=seed + 2),
        "zoom": lambda: layers.RandomZoom(config.zoom, seed=seed + 3),
        "brightness": lambda: layers.RandomBrightness(config.brightness, value_range=full, seed=seed + 4),
        "contrast": lambda: layers.RandomContrast(config.contrast, value_range=full, seed=seed + 5),
    }
    wanted = {**dataclasses.asdict(config), **dict.fromkeys(config.flip.split("_and_"), 1)}
    changes = [build() for name, build in every.items() if wanted.get(name)]

    def augment(images: tf.Tensor) -> tf.Tensor:
        changed = tf.cast(images, tf.float32)
        for change in changes:
            changed = change(changed, training=True)
        return tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)

    return augment
