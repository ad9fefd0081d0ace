"""Features of the frozen part of a network, computed once for each image and each augmented view of it.

While nothing below the head learns, a second pass over the same pixels gives the same features: the head then trains
on them in seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.training.augment import build_augmentation

if TYPE_CHECKING:
    import keras

# Large enough to keep two cores busy; larger ones gained nothing and cost memory.
BATCH_SIZE = 32


def compute_features(
    trunk: keras.Model,
    images: NDArray[np.uint8],
    *,
    views: int = 0,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return features float32 (1 + views, N, ...): of the images themselves, then of each augmented view.

    Args:
        trunk: the frozen part, image -> features.
        images: uint8 (N, S, S, 1), 0..255.
        views: how many augmented versions of each image follow the image itself; needs `augment`.
        augment: the random changes.
        seed: of the changes.
        progress: called with (images done, images in all), views counted in.
    """
    import tensorflow as tf

    change = build_augmentation(augment, seed) if views and augment else None
    # Any batch size: the last, shorter batch must not trace the network again.
    signature = [tf.TensorSpec((None, *images.shape[1:]), tf.uint8)]
    forward = tf.function(lambda batch: trunk(batch, training=False), input_signature=signature)
    changed_forward = forward
    if change:
        changed_forward = tf.function(lambda batch: trunk(change(batch), training=False), input_signature=signature)
    rounds = 1 + (views if change else 0)
    total = rounds * len(images)
    features = np.empty((rounds, len(images), *trunk.output.shape[1:]), np.float32)
    for view in range(rounds):
        run = changed_forward if view else forward
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            features[view, start : start + len(batch)] = run(tf.constant(batch)).numpy()
            if progress:
                progress(view * len(images) + start + len(batch), total)
    return features
