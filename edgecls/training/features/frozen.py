"""What a phase learns from while the lower part of the network is frozen: the features that this part computes."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split
from edgecls.networks.split_layer import split_at
from edgecls.training.context import Context
from edgecls.training.features.cache import AugmentedCopy, Features, cached_features
from edgecls.training.features.examples import FeatureExamples
from edgecls.training.features.forward import BATCH_SIZE, Forward, fastest_forward

if TYPE_CHECKING:
    import keras

# Fraction of the time budget for features of augmented copies; the rest is for learning and scoring.
COPIES_FRACTION = 0.5


@dataclass
class FeatureExtractor:
    """What is known of the network below a split layer."""

    forward: Forward | None = None  # its engine; None until it is needed
    pass_seconds: float = 0.0  # of its slowest pass over the training images
    l2: float | None = None  # strength that cross-validation chose for a linear classifier of its features; None before
    # Kernel and bias of a classifier with a stronger penalty, from which fine-tuning starts; empty before.
    soft: tuple[NDArray[np.float32], ...] = ()

    @property
    def used(self) -> str | None:
        """Return the engine and why it was chosen, or None if nothing was computed."""
        return f"{self.forward.engine}: {self.forward.why}" if self.forward else None


def copy_count(config: TrainConfig) -> int:
    """Return the number of augmented copies of each training image."""
    return config.augmented_copies if config.augment else 0


def frozen_examples(
    name: str,
    extractor: keras.Model,
    split_layer: str,
    context: Context,
    known: FeatureExtractor,
    *,
    copies: int | None = None,
    planned_images: int = 0,
    through: str | None = None,
) -> tuple[FeatureExamples, FeatureExamples]:
    """Return (training examples, validation examples) of a phase, and update `known`.

    Args:
        name: of the phase, for the progress.
        extractor: image -> output of the split layer.
        split_layer: its name.
        context: of the run.
        known: what is known of the extractor.
        copies: augmented copies of each training image, or None for those of the settings.
        planned_images: how many images the extractor will run in all phases, if they are more than here.
        through: name of a layer below, from whose features, which are cached, the others are computed; or None.
    """
    data, config = context.dataset, context.config
    network = _find_network(extractor, split_layer, config, known, through)
    compute = functools.partial(_compute, name, network, context, planned_images)
    val = compute(data.val, 0, "validation images")
    began = now = time.monotonic()
    copies = copy_count(config) if copies is None else copies
    features: list[Features] = []
    for number in range(1 + copies):
        if number and context.deadline is not None:
            if context.workers.anyone(now + known.pass_seconds > began + COPIES_FRACTION * (context.deadline - began)):
                break
        features.append(compute(data.train, number, f"copy {number} of {copies}" if number else "training images"))
        before, now = now, time.monotonic()
        known.pass_seconds = max(known.pass_seconds, now - before)
    return FeatureExamples(features, data.train.labels, config.seed), FeatureExamples([val], data.val.labels)


@dataclass(frozen=True, eq=False)
class _Network:
    """A frozen network whose features are cached."""

    key: dict[str, Any]  # as of `network_key`
    model: keras.Model  # from images, or from the features of `below`
    known: FeatureExtractor
    below: _Network | None = None


def _find_network(
    extractor: keras.Model, split_layer: str, config: TrainConfig, known: FeatureExtractor, through: str | None
) -> _Network:
    key = network_key(extractor, split_layer, config)
    if through is None:
        return _Network(key, extractor, known)
    lower, upper = split_at(extractor, through)
    return _Network(key, upper, known, _find_network(lower, through, config, FeatureExtractor(), None))


def _compute(
    phase: str, network: _Network, context: Context, planned_images: int, part: Split, number: int, stage: str
) -> Features:
    """Return the features of augmented copy `number`, 0 for the images themselves; `stage` is its name for progress."""
    below = None
    if network.below:
        below = functools.partial(_compute, phase, network.below, context, planned_images, part, number, stage)
    return cached_features(
        network.key,
        functools.partial(_find_forward, network, context, planned_images),
        part.images,
        part.digests,
        AugmentedCopy(number, context.config.augment, context.config.seed),
        below=below,
        cache=context.cache,
        progress=functools.partial(context.progress, f"{phase}: features of {stage}"),
    )


def _find_forward(network: _Network, context: Context, planned_images: int) -> Forward:
    """Return the engine that is known, or the fastest for all images of this phase and the next."""
    known = network.known
    if known.forward is None:
        train, val = context.dataset.train, context.dataset.val
        total = len(val.labels) + (1 + copy_count(context.config)) * len(train.labels)
        sample = np.asarray(train.images[:BATCH_SIZE])
        if network.below:
            sample = np.asarray(network.below.model(sample, training=False))
        known.forward = fastest_forward(network.model, sample, max(total, planned_images))
    return known.forward


def network_key(extractor: keras.Model, split_layer: str, config: TrainConfig) -> dict[str, Any]:
    """Return JSON that identifies this frozen network: its graph and its weights."""
    digest = hashlib.sha256()
    for weight in extractor.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    # Without layer names: Keras numbers them differently in every process.
    graph = [
        [type(layer).__name__, getattr(layer, "strides", None), getattr(layer, "padding", None)]
        for layer in extractor.layers
    ]
    scaling = extractor.get_layer("center").get_config()
    return {
        "format": 1,
        # The key's old name, so that caches of older versions stay valid.
        "cut": split_layer,
        "size": config.image_size,
        "weights": digest.hexdigest(),
        "graph": graph,
        "scaling": [scaling["scale"], scaling["offset"]],
    }
