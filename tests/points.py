"""Points around centres as examples of `fit`, and small networks that tell them apart."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

COLUMNS, CLASSES = 4, 3


@dataclass(frozen=True, eq=False)
class Points:
    x: NDArray[np.float32]
    labels: NDArray[np.int64]

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.x[chosen]


def blobs(count: int, seed: int = 0, spread: float = 1.0) -> Points:
    """Return points of `CLASSES` classes in equal shares; the centres are the same for every seed."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1.5, (CLASSES, COLUMNS))
    labels = np.arange(count) % CLASSES
    return Points((centres[labels] + random.normal(0, spread, (count, COLUMNS))).astype(np.float32), labels)


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
