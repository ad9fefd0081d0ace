"""The first stage of a search: the accuracy of every depth and image size with a linear classifier on frozen features.

Each image is labeled by a classifier that learned from all other training and validation images, without those of its
group. Test images play no part.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.files import json_sha256, read_checked, write_checked
from edgecls.images.dataset import load_paths
from edgecls.networks.weights import Weights, find_weights
from edgecls.progress import Progress, silent
from edgecls.sweep.run import forget_networks
from edgecls.training.features.depths import DEPTHS, features_of_depths
from edgecls.training.leave_one_out import label_each_from_the_others
from edgecls.training.train import load_images

# More images would cost time and hardly change the choice: the standard error of an accuracy of 95 % is 0.3 points.
MOST_IMAGES = 6000


@dataclass(frozen=True, eq=False)
class Scanned:
    """A network and which images its classifier labels correctly."""

    config: TrainConfig  # to train it with
    correct: NDArray[np.bool_]  # bool (N,), of the same images for all networks

    @property
    def accuracy(self) -> float:
        """Return the fraction of the images that are labeled correctly, 0..1."""
        return float(self.correct.mean())


def scan(
    data: Path, out: Path, base: TrainConfig, sizes: Sequence[int], progress: Progress = silent
) -> Iterator[list[Scanned]]:
    """Yield the networks of all depths at each image size; `base` has all other settings.

    The results are kept in `out`, so that an interrupted search continues.

    Raises:
        DataError: the images cannot be used. WeightsError: no weights. TrainingError: no room for the features.
    """
    images = _choose_images(data, base, min(sizes), progress)
    for size in sizes:
        config = dataclasses.replace(base, image_size=size)
        weights = find_weights(base.weights, size, base.alpha)
        path, key = out / f"scan-{size}.json", _key(config, images, weights)
        correct = _read(path, key)
        if correct is None:
            correct = dict(_classify(config, weights, images, progress))
            _write(path, key, correct)
            forget_networks()
        yield [Scanned(dataclasses.replace(config, blocks=blocks), correct[blocks]) for blocks in DEPTHS]


@dataclass(frozen=True)
class _Images:
    root: Path  # the folder that the paths are relative to
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    class_count: int
    sha256: str  # of all pixels
    groups: tuple[str, ...]  # of each image, "" for none


def _classify(
    config: TrainConfig, weights: Weights, images: _Images, progress: Progress
) -> Iterator[tuple[int | None, NDArray[np.bool_]]]:
    """Yield each of `DEPTHS` and which images are labeled correctly."""
    size, stage = config.image_size, f"{config.image_size} pixels"
    read = functools.partial(progress, f"{stage}: read images")
    how = config.preprocessing
    split = load_paths(images.root, images.paths, images.labels, size, size, preprocessing=how, progress=read)
    depths = features_of_depths(config, weights, split, stage=stage, progress=progress)
    for done, (blocks, features) in enumerate(depths, 1):
        labels = label_each_from_the_others(features, split.labels, images.class_count, images.groups)
        yield blocks, labels == split.labels
        progress(f"{stage}: classifiers of all depths", done, len(DEPTHS))


def _choose_images(data: Path, config: TrainConfig, size: int, progress: Progress) -> _Images:
    """Return training and validation images, at most `MOST_IMAGES` and no two alike."""
    dataset = load_images(data, dataclasses.replace(config, image_size=size), False, progress)
    # Of images that are alike, a classifier could learn from one and be tested on the other.
    found = {
        digest: (path, int(label))
        for part in (dataset.train, dataset.val)
        for digest, path, label in zip(part.digests, part.paths, part.labels, strict=True)
    }
    chosen = sorted(found)
    order = np.random.default_rng(config.seed).permutation(len(chosen))[:MOST_IMAGES]
    digests = [chosen[place] for place in order]
    paths, labels = zip(*(found[digest] for digest in digests), strict=True)
    groups = tuple(dataset.group_of.get(path, "") for path in paths)
    sha256 = hashlib.sha256(b"".join(digests)).hexdigest()
    return _Images(dataset.root, paths, labels, len(dataset.classes), sha256, groups)


def _key(config: TrainConfig, images: _Images, weights: Weights) -> str:
    """Return what a result depends on, as a sha256."""
    settings = [config.image_size, config.alpha, config.seed, weights.sha256, weights.layout]
    # Without groups, what older versions have found stays valid.
    groups = [images.groups] if any(images.groups) else []
    return json_sha256([images.sha256, images.paths, images.labels, settings, vars(config.preprocessing), *groups])


def _read(path: Path, key: str) -> dict[int | None, NDArray[np.bool_]] | None:
    """Return what an earlier scan of the same images found, or None."""
    if not path.is_file():
        return None
    document = read_checked(path)
    if document["key"] != key:
        return None
    rows = [np.unpackbits(np.frombuffer(bytes.fromhex(row), np.uint8)) for row in document["correct"]]
    return {blocks: row[: document["images"]].astype(bool) for blocks, row in zip(DEPTHS, rows, strict=True)}


def _write(path: Path, key: str, known: dict[int | None, NDArray[np.bool_]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.packbits(known[blocks]).tobytes().hex() for blocks in DEPTHS]
    write_checked(path, {"key": key, "images": len(known[None]), "correct": rows})
