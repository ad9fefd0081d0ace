"""What an audit looks at: the images of all splits, and their features from the frozen backbone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.images.assign import place_in
from edgecls.images.dataset import Dataset, Split
from edgecls.images.folders import check_root
from edgecls.images.grouping import NO_GROUPS, find_groups
from edgecls.images.layout import list_dataset
from edgecls.images.memmap import chunks
from edgecls.networks.model import FEATURES_LAYER, build_model
from edgecls.networks.split_layer import split_at
from edgecls.networks.weights import find_weights
from edgecls.progress import Progress, silent
from edgecls.training.features.cache import AugmentedCopy, Features, cached_features
from edgecls.training.features.forward import Forward, fastest_forward
from edgecls.training.features.frozen import network_key
from edgecls.training.train import layout_of, load_images

TRAIN, VAL, TEST = range(3)


@dataclass(frozen=True, eq=False)
class Material:
    """All images of a data set, training images first, then validation and test images.

    Attributes:
        dataset: where they come from.
        paths: posix, relative to the data set's root.
        labels: int64 (N,), index into the classes.
        parts: int64 (N,), TRAIN, VAL or TEST.
        digests: sha256 of the pixels of each.
        features: of the images of each split.
        group_of: path -> group, of the images that are in one.
    """

    dataset: Dataset
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    parts: NDArray[np.int64]
    digests: tuple[bytes, ...]
    features: tuple[Features, ...]
    group_of: Mapping[str, str]

    def each(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every image in order, uint8 (S, S); only a part of them is in memory."""
        for split in self._splits():
            yield from (image[:, :, 0] for chunk in chunks(split.images) for image in chunk)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return an image, uint8 (S, S)."""
        for split in self._splits():
            if index < len(split.labels):
                return np.asarray(split.images[index, :, :, 0])
            index -= len(split.labels)
        raise IndexError(index)

    def _splits(self) -> list[Split]:
        return [split for split in (self.dataset.train, self.dataset.val, self.dataset.test) if split is not None]

    def take(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the features of some images, float32 (len(chosen), F)."""
        width = int(np.prod(self.features[0].rows.shape[1:]))
        result, start = np.empty((len(chosen), width), np.float32), 0
        for features in self.features:
            own = (chosen >= start) & (chosen < start + len(features))
            if own.any():
                result[own] = features.take(chosen[own] - start).reshape(-1, width)
            start += len(features)
        return result


def read_material(data: Path, config: TrainConfig, progress: Progress = silent) -> Material:
    """Return the readable images of a data set with their features, which `train` finds in the same cache.

    Raises:
        DataError: the images cannot be used. WeightsError: there are no weights.
    """
    layout = layout_of(config)
    try:
        dataset = load_images(data, config, True, progress)
    except DataError:
        # That groups are in two splits, or too few to be split, is no error here but a finding.
        dataset = load_images(data, replace(config, group=NO_GROUPS), True, progress)
    # Groups are those of the first folder.
    first = check_root(data)
    listing = list_dataset(first, replace(layout, group="", exclude="" if config.more_data else layout.exclude))
    place = place_in(first, dataset.root)
    splits = [split for split in (dataset.train, dataset.val, dataset.test) if split is not None]
    return Material(
        dataset,
        tuple(path for split in splits for path in split.paths),
        np.concatenate([split.labels for split in splits]),
        np.repeat(np.arange(len(splits)), [len(split.labels) for split in splits]),
        tuple(digest for split in splits for digest in split.digests),
        compute_features(splits, len(dataset.classes), config, progress),
        {place + path: group for path, group in find_groups(first, listing, config.group).items()},
    )


def compute_features(
    splits: list[Split], class_count: int, config: TrainConfig, progress: Progress = silent
) -> tuple[Features, ...]:
    """Return the features of the frozen backbone of each split, from the cache of `train` if they are there.

    Raises:
        WeightsError: there are no weights.
    """
    weights = find_weights(config.weights, config.image_size, config.alpha)
    extractor, _ = split_at(build_model(config, class_count, weights), FEATURES_LAYER)
    network = network_key(extractor, FEATURES_LAYER, config)

    @functools.cache
    def forward() -> Forward:
        return fastest_forward(extractor, splits[0].images, sum(len(split.labels) for split in splits))

    return tuple(
        cached_features(
            network,
            forward,
            split.images,
            split.digests,
            AugmentedCopy(),
            progress=functools.partial(progress, "features of images"),
        )
        for split in splits
    )
