"""One training step on a small network, for the tests of edgecls.training.step."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from points import blobs, network

from edgecls.training.recipe import Recipe
from edgecls.training.step import StepOutput, TrainableNetwork

RECIPE = Recipe("classifier", 3, learning_rate=0.01)
POINTS = blobs(24)


def make(model: keras.Model | None = None, **changes: Any) -> TrainableNetwork:
    return TrainableNetwork(model or network(8), dataclasses.replace(RECIPE, **changes))


def step(net: TrainableNetwork, points: Any = POINTS) -> StepOutput:
    return net.train_step(points.x, points.labels, watch=True)


def weights_of(model: keras.Model) -> dict[str, Any]:
    return {weight.path: weight.numpy() for weight in model.weights}
