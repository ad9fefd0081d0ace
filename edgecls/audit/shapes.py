"""Whether the shapes of images differ so much that another resize would serve, measured on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.judge import score_out_of_fold
from edgecls.audit.material import Material, compute_features
from edgecls.config import TrainConfig
from edgecls.evaluate import SIGNIFICANT_P, count_flips, mcnemar_p
from edgecls.images.dataset import load_paths
from edgecls.messages.numbers import percent
from edgecls.preprocessing import RESIZES
from edgecls.progress import Progress, silent

# Widest to narrowest aspect ratio from which another resize is tried: between the 5th and the 95th percentile.
LEAST_RANGE = 1.3
_PERCENTILES = 5, 95
MOST_IMAGES = 1000


@dataclass(frozen=True)
class Shapes:
    """What other ways to resize would give.

    Attributes:
        narrow: width / height, 5th percentile.
        wide: the 95th percentile.
        images: number of images that were measured.
        resize: the one of this audit.
        accuracy: resize -> accuracy of a linear classifier on features of images that it did not learn from, 0..1.
        better: the most accurate resize if it is significantly better than that of this audit, else "".
        p_value: of the exact McNemar test between that of this audit and the most accurate other one.
    """

    narrow: float
    wide: float
    images: int
    resize: str
    accuracy: dict[str, float]
    better: str
    p_value: float


def measure_shapes(
    material: Material,
    config: TrainConfig,
    ratios: NDArray[np.float64],
    units: Sequence[object],
    l2: float,
    progress: Progress = silent,
) -> Shapes | None:
    """Return how accurate other ways to resize are; None if the images have nearly one shape.

    Args:
        material: the images.
        config: settings of the audit.
        ratios: width / height of each image, float64 (N,); NaN if it is not known.
        units: of `score_out_of_fold`.
        l2: of `choose_l2`.
        progress: called at each stage.
    """
    known = ratios[np.isfinite(ratios)]
    # A region of interest gives all images one shape.
    if not len(known) or config.roi:
        return None
    narrow, wide = (float(value) for value in np.percentile(known, _PERCENTILES))
    if wide < LEAST_RANGE * narrow:
        return None
    # Half of the images, so that two more ways take no more time than the audit's own.
    count = min(MOST_IMAGES, max(len(material.paths) // 2, 1))
    chosen = np.sort(np.random.default_rng(0).permutation(len(material.paths))[:count])
    correct = {}
    for resize in RESIZES:
        sample = _read(material, chosen, replace(config, resize=resize), progress)
        scores = score_out_of_fold(sample, [units[index] for index in chosen.tolist()], l2)
        correct[resize] = scores.argmax(1) == sample.labels
    own = correct[config.resize]
    best = max((name for name in RESIZES if name != config.resize), key=lambda name: int(correct[name].sum()))
    p_value = mcnemar_p(*count_flips(own, correct[best]))
    gains = correct[best].sum() > own.sum() and p_value < SIGNIFICANT_P
    accuracy = {name: float(table.mean()) for name, table in correct.items()}
    return Shapes(narrow, wide, count, config.resize, accuracy, best if gains else "", p_value)


def _read(material: Material, chosen: NDArray[np.int64], config: TrainConfig, progress: Progress) -> Material:
    """Return some of the images, resized as `config` says, with their features."""
    paths, labels = [material.paths[index] for index in chosen.tolist()], material.labels[chosen]
    size, how = config.image_size, config.preprocessing
    split = load_paths(material.dataset.root, paths, labels.tolist(), size, size, preprocessing=how)
    features = compute_features([split], len(material.dataset.classes), config, progress)
    return replace(material, paths=tuple(paths), labels=labels, parts=material.parts[chosen], features=features)


def describe_shapes(found: Shapes) -> str:
    """Return what was measured and, if another resize is better, the option to type."""
    order = [found.resize, *(name for name in RESIZES if name != found.resize)]
    reached = ", ".join(f"{percent(found.accuracy[name])} with --resize {name}" for name in order)
    text = (
        f"Width / height of the images ranges from {found.narrow:.2f} to {found.wide:.2f}. On {found.images:,} of them "
        f"a linear classifier reaches {reached}"
    )
    if found.better:
        return f"{text}: use --resize {found.better} (p = {found.p_value:.2g})."
    return f"{text}: no other is significantly better than {found.resize}."
