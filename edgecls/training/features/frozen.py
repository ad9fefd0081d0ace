"""What a phase learns from while a part of the network is frozen: the features that this part gives."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split
from edgecls.training.features.cache import Features, View, cached_features
from edgecls.training.features.examples import FeatureExamples
from edgecls.training.features.forward import Forward, fastest_forward

if TYPE_CHECKING:
    import keras

    from edgecls.training.context import Context

# Share of the time budget that features of views may take; the rest is for learning and scoring.
VIEWS_SHARE = 0.5


@dataclass
class Trunk:
    """What is known of the frozen part below a cut.

    Attributes:
        forward: its engine, once it was needed.
        pass_seconds: of its slowest pass.
    """

    forward: Forward | None = None
    pass_seconds: float = 0.0

    @property
    def used(self) -> str | None:
        """Return the engine and how it was chosen, or None if nothing was computed."""
        return f"{self.forward.engine}: {self.forward.why}" if self.forward else None


def view_count(config: TrainConfig) -> int:
    """Return how many changed versions of each image are learned from."""
    return config.views if config.augment else 0


def frozen_examples(
    name: str, trunk: keras.Model, cut: str, setting: Context, known: Trunk
) -> tuple[FeatureExamples, FeatureExamples]:
    """Return (training examples, validation examples), and note in `known` what computed them and how fast."""
    data, config = setting.dataset, setting.config
    network = network_key(trunk, cut, config)

    def forward() -> Forward:
        if known.forward is None:
            # All that will pass it, in this phase and the next.
            total = len(data.val.labels) + (1 + view_count(config)) * len(data.train.labels)
            known.forward = fastest_forward(trunk, data.train.images[:32], total)
        return known.forward

    def compute(part: Split, number: int, stage: str) -> Features:
        return cached_features(
            network,
            forward,
            part.images,
            part.digests,
            View(number, config.augment, config.seed),
            cache=setting.cache,
            progress=functools.partial(setting.progress, f"{name}: features of {stage}"),
        )

    val = compute(data.val, 0, "validation images")
    began = now = time.monotonic()
    views = 0 if name == "head" else view_count(config)
    features: list[Features] = []
    for number in range(1 + views):
        if number and setting.deadline is not None:
            if setting.workers.anyone(now + known.pass_seconds > began + VIEWS_SHARE * (setting.deadline - began)):
                break
        features.append(compute(data.train, number, f"view {number} of {views}" if number else "training images"))
        before, now = now, time.monotonic()
        known.pass_seconds = max(known.pass_seconds, now - before)
    train = FeatureExamples(features, data.train.labels, config.seed)
    return train, FeatureExamples([val], data.val.labels, config.seed)


def network_key(trunk: keras.Model, cut: str, config: TrainConfig) -> dict[str, Any]:
    """Return what tells this frozen network from every other: its graph and its weights."""
    digest = hashlib.sha256()
    for weight in trunk.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    # What Keras numbers by itself differs from one process to the next and changes nothing.
    graph = [
        [type(layer).__name__, getattr(layer, "strides", None), getattr(layer, "padding", None)]
        for layer in trunk.layers
    ]
    scaling = trunk.get_layer("center").get_config()
    return {
        "format": 1,
        "cut": cut,
        "size": config.image_size,
        "weights": digest.hexdigest(),
        "graph": graph,
        "scaling": [scaling["scale"], scaling["offset"]],
    }
