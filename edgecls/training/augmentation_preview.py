"""The preview of a training: some of its images beside the augmented copies that the network will learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split
from edgecls.training.context import Pictures
from edgecls.training.features.augment import change_images, describe_augmentation, draw_changes, find_borders
from edgecls.training.features.cache import image_key

IMAGES, COPIES = 8, 6


def draw_preview(split: Split, config: TrainConfig, path: Path, pictures: Pictures) -> None:
    """Draw images of `split`, their copies with the settings of `config`, and these settings, with `pictures`."""
    chosen = np.linspace(0, len(split.labels) - 1, min(IMAGES, len(split.labels))).astype(int)
    images, keys = split.images[chosen], [image_key(split.digests[i]) for i in chosen]
    augment, size, seed, numbers = config.augment, config.image_size, config.seed, range(1, COPIES + 1)
    if augment is None:
        pictures.preview(images, [], path, [], "--no-augment")
        return
    changes = [draw_changes(augment, size, keys, number, seed) for number in numbers]
    copies, borders = [change_images(images, each) for each in changes], [find_borders(each, size) for each in changes]
    pictures.preview(images, copies, path, borders, f"{describe_augmentation(augment) or 'no change'}; --seed {seed}")
