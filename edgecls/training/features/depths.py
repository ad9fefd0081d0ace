"""The features of a backbone cut after each of its blocks, all from one pass over the images, which is cached."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.config.choices import BLOCKS
from edgecls.images.dataset import Split
from edgecls.networks.model import build_mobilenet_v2, last_layer
from edgecls.networks.weights import Weights
from edgecls.progress import Progress, silent
from edgecls.training.features.cache import AugmentedCopy, Features, cached_features
from edgecls.training.features.forward import fastest_forward
from edgecls.training.features.frozen import network_key

if TYPE_CHECKING:
    import keras

DEPTHS = (*range(1, BLOCKS + 1), None)
"""What `TrainConfig.blocks` may be, the smallest network first."""
# The name of this extractor in the cache, where others are named for the layer that they end with.
EVERY_BLOCK = "every block"


def features_of_depths(
    config: TrainConfig,
    weights: Weights,
    split: Split,
    *,
    depths: Sequence[int | None] = DEPTHS,
    cache: Path | None = None,
    stage: str = EVERY_BLOCK,
    progress: Progress = silent,
) -> Iterator[tuple[int | None, NDArray[np.float16]]]:
    """Yield each of `depths` and the averages, float16 (N, channels), that the head "gap" takes after so many blocks.

    Args:
        config: size and width of the network.
        weights: of the backbone.
        split: N images.
        depths: some of `DEPTHS`; they are yielded in the order that it has.
        cache: folder of feature caches; None is the user's.
        stage: what the features are for.
        progress: called while they are computed.

    Raises:
        TrainingError: the disk has no room for the features.
    """
    extractor, widths = _extractor(config, weights)
    features = cached_features(
        network_key(extractor, EVERY_BLOCK, config),
        lambda: fastest_forward(extractor, split.images, len(split.labels)),
        split.images,
        split.digests,
        AugmentedCopy(),
        cache=cache,
        progress=functools.partial(progress, f"{stage}: features"),
    )
    start = 0
    for blocks, width in zip(DEPTHS, widths, strict=True):
        if blocks in depths:
            yield blocks, _columns(features, start, width)
        start += width


def _extractor(config: TrainConfig, weights: Weights) -> tuple[keras.Model, list[int]]:
    """Return (image -> pooled features of all depths side by side, how many each has)."""
    import keras

    # Neither the head nor its number of classes matters.
    model = build_mobilenet_v2(config, 2, weights)
    maps = [model.get_layer(last_layer(blocks)).output for blocks in DEPTHS]
    pooled = [keras.layers.GlobalAveragePooling2D()(each) for each in maps]
    return keras.Model(model.input, keras.layers.Concatenate()(pooled)), [each.shape[-1] for each in pooled]


def _columns(features: Features, start: int, width: int) -> NDArray[np.float16]:
    """Return columns of all rows, read a few rows at a time so that they alone stay in memory."""
    found = np.empty((len(features), width), np.float16)
    for rows in np.array_split(np.arange(len(features)), max(1, len(features) // 1024)):
        found[rows] = features.take(rows)[:, start : start + width]
    return found
