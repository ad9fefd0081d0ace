"""Points around centers as examples of `fit`, small networks that tell them apart, and runs of `fit` on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecls.training.fit import FitResult, fit
from edgecls.training.history import EpochRecord
from edgecls.training.recipe import Recipe

COLUMNS, CLASSES = 4, 3


@dataclass(frozen=True, eq=False)
class Points:
    x: NDArray[np.float32]
    labels: NDArray[np.int64]

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.x[chosen]


def blobs(count: int, seed: int = 0, spread: float = 1.0) -> Points:
    """Return points of `CLASSES` classes in equal shares; the centers are the same for every seed."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(0, 1.5, (CLASSES, COLUMNS))
    labels = np.arange(count) % CLASSES
    return Points((centers[labels] + random.normal(0, spread, (count, COLUMNS))).astype(np.float32), labels)


def network(*hidden: int, dropout: float = 0.0, batch_norm: bool = False, seed: int = 0) -> keras.Model:
    layers = keras.layers
    x = points = keras.Input((COLUMNS,))
    for i, units in enumerate(hidden, 1):
        start = keras.initializers.HeNormal(seed + i)
        x = layers.Dense(units, activation="relu", kernel_initializer=start, name=f"hidden_{i}")(x)
    if batch_norm:
        x = layers.BatchNormalization(name="batch_norm", momentum=0.9)(x)
    if dropout:
        x = layers.Dropout(dropout, seed=seed, name="dropout")(x)
    start = keras.initializers.GlorotUniform(seed)
    scores = layers.Dense(CLASSES, activation="softmax", kernel_initializer=start, name="scores")
    return keras.Model(points, scores(x))


TRAIN, VAL = blobs(90), blobs(60, seed=1)
# 90 points in batches of 16: five whole ones and one of ten.
RECIPE = Recipe("classifier", epochs=4, batch_size=16, learning_rate=0.01)
STEPS = 6


@dataclass
class Watched:
    """Examples that call a function before each batch, with the number of the batch among all of them."""

    points: Points
    before: Callable[[int], None]
    batches: int = 0
    shown: list[tuple[int, list[int]]] = dataclasses.field(default_factory=list)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.points.labels

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        self.before(self.batches)
        self.batches += 1
        self.shown.append((epoch, chosen.tolist()))
        return self.points.batch(epoch, chosen)


def run(model: keras.Model | None = None, *, val: Points = VAL, **options: Any) -> tuple[keras.Model, FitResult]:
    names = {field.name for field in dataclasses.fields(Recipe)}
    changes = {name: options.pop(name) for name in list(options) if name in names}
    model = model or network(8)
    train = options.pop("train", TRAIN)
    return model, fit(model, train, val, dataclasses.replace(RECIPE, **changes), **options)


def cross_entropy(model: keras.Model, points: Points) -> float:
    scores = model(points.x).numpy()
    return float(-np.log(scores[np.arange(len(scores)), points.labels]).mean())


def accuracy(model: keras.Model, points: Points) -> float:
    return float((model(points.x).numpy().argmax(1) == points.labels).mean())


def without_seconds(history: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0) for record in history]


def swapped(points: Points) -> Points:
    """Return the points with two classes exchanged."""
    return Points(points.x, np.array([1, 0, 2])[points.labels])


def taught_wrong() -> keras.Model:
    """Return a network that has learned `swapped` points: what it learns of the others makes it worse on those."""
    model = network(8)
    if not _taught_wrong:
        _taught_wrong.extend(run(model, train=swapped(TRAIN), val=swapped(VAL), epochs=8)[0].get_weights())
    model.set_weights(_taught_wrong)
    return model


_taught_wrong: list[NDArray[np.float32]] = []
