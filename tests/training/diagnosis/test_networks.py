"""Small networks that really train: each is built to have one problem, and its twin to have none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgecls.config import TrainConfig
from edgecls.training.diagnosis.diagnose import diagnose
from edgecls.training.diagnosis.finding import Finding, Scored
from edgecls.training.diagnosis.scores import find_suspects
from edgecls.training.fit import fit
from edgecls.training.recipe import Recipe

CLASSES = ("bolt", "nut", "screw", "washer")
FEATURES = 16
RATE = 2e-3
CONFIG = TrainConfig(arch="mlp", learning_rate=RATE)


@dataclass(frozen=True)
class Points:
    """Clouds of points, one a class; what is damaged holds huge numbers in epochs 4 and 6."""

    x: np.ndarray
    labels: np.ndarray
    damaged: int | None = None

    def batch(self, epoch: int, chosen: np.ndarray) -> np.ndarray:
        x: np.ndarray = self.x[chosen]
        if epoch in (4, 6):
            x[chosen == self.damaged] *= -1000
        return x


def clouds(counts: tuple[int, ...] = (150, 150, 150, 150), *, seed: int = 0, spread: float = 1.0) -> Points:
    centers = np.random.default_rng(99).normal(0, 2, (len(CLASSES), FEATURES))
    labels = np.repeat(np.arange(len(CLASSES)), counts)
    noise = np.random.default_rng(seed).normal(0, spread, (len(labels), FEATURES))
    return Points((centers[labels] + noise).astype(np.float32), labels)


TRAIN, VAL = clouds(), clouds((60, 60, 60, 60), seed=1)


def dense(depth: int, width: int = 32, activation: str = "relu", **settings: Any) -> keras.Model:
    """Return Dense layers and a classifier; depth 0 is a classifier on frozen features."""
    keras.utils.set_random_seed(1)
    settings = {"kernel_initializer": "he_normal" if activation == "relu" else "glorot_uniform", **settings}
    x = inputs = keras.Input((FEATURES,))
    for index in range(depth):
        x = layers.Dense(width, activation=activation, name=f"hidden_{index + 1}", **settings)(x)
    return keras.Model(inputs, layers.Dense(len(CLASSES), activation="softmax", name="scores")(x))


def examine(
    model: keras.Model, train: Points = TRAIN, val: Points = VAL, config: TrainConfig = CONFIG, **recipe: Any
) -> dict[str, Finding]:
    """Return the findings by name of training `model` and scoring its images."""
    settings = {"phase": "all", "epochs": 8, "learning_rate": config.main_learning_rate, **recipe}
    result = fit(model, train, val, Recipe(**settings))
    parts = [
        Scored(part, model(points.x).numpy(), points.labels)
        for part, points in (("training", train), ("validation", val))
    ]
    found = diagnose(result.history, config, CLASSES, divergence=result.divergence, train=parts[0], val=parts[1])
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_no_problems_of_networks(depth: int) -> None:
    assert list(examine(dense(depth))) == ["no-problems"]


def test_no_problems_of_head_on_frozen_features() -> None:
    config = TrainConfig()
    assert list(examine(dense(0), config=config, phase="classifier")) == ["no-problems"]


def test_no_problems_of_convolutions_with_dropout_and_batch_norm() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 12, 1))
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(layers.Dropout(0.1)(x))
    x = layers.BatchNormalization()(layers.Dense(16, activation="relu")(layers.Flatten()(x)))
    model = keras.Model(inputs, layers.Dense(len(CLASSES), activation="softmax")(x))
    patterns = np.random.default_rng(0).normal(0, 1, (len(CLASSES), 12, 12, 1))

    def pictures(points: Points, seed: int) -> Points:
        noise = np.random.default_rng(seed).normal(0, 1, (len(points.labels), 12, 12, 1))
        return Points((patterns[points.labels] + noise).astype(np.float32), points.labels)

    assert list(examine(model, pictures(TRAIN, 1), pictures(VAL, 2))) == ["no-problems"]


def test_chain_of_sigmoids_vanishes() -> None:
    found = examine(dense(8, activation="sigmoid"))
    assert list(found) == ["vanishing-gradients", "no-better-than-majority"]
    assert "hidden_1" in found["vanishing-gradients"].text


def test_huge_initial_weights_explode() -> None:
    found = examine(dense(6, kernel_initializer=keras.initializers.RandomNormal(stddev=3)), epochs=3)
    assert found["exploding-gradients"].severity == "error"


def test_overflow_is_a_nan_with_layer_and_step() -> None:
    # Activations of 1e34 still fit into a float32, the squares of their gradients do not.
    found = examine(dense(6, kernel_initializer=keras.initializers.RandomNormal(stddev=1e5)))
    assert list(found)[:2] == ["not-finite", "exploding-gradients"]
    assert "epoch 1, step 0" in found["not-finite"].text


def test_nan_image_is_a_nan_after_some_steps() -> None:
    x = TRAIN.x.copy()
    x[77] = np.nan
    found = examine(dense(1), replace(TRAIN, x=x))
    assert "not-finite" in found


def test_dead_relus() -> None:
    found = examine(dense(2, bias_initializer=keras.initializers.Constant(-50)), epochs=4)
    assert list(found) == ["dead-relus", "no-better-than-majority"]
    assert found["dead-relus"].severity == "error" and "hidden_1 (100 %)" in found["dead-relus"].text


def test_rate_too_high() -> None:
    config = replace(CONFIG, learning_rate=0.9)
    assert "learning-rate-too-high" in examine(dense(3), config=config, schedule="constant")


def test_rate_too_low() -> None:
    config = replace(CONFIG, learning_rate=1e-5)
    found = examine(dense(3), config=config, schedule="constant")
    assert list(found) == ["learning-rate-too-low"]
    assert "--learning-rate 0.0001" in found["learning-rate-too-low"].remedy


def test_too_few_epochs() -> None:
    found = examine(
        dense(1), clouds(spread=3), clouds((60, 60, 60, 60), seed=1, spread=3), epochs=3, schedule="constant"
    )
    assert "too-few-epochs" in found


def test_damaged_image_makes_spikes() -> None:
    found = examine(dense(1), replace(TRAIN, damaged=5))
    assert "epoch 4" in found["loss-spikes"].text or "epoch 6" in found["loss-spikes"].text
    assert found["loss-spikes"].severity == "warning"


def test_few_images_are_overfitted() -> None:
    few, other = clouds((8, 8, 8, 8), spread=6), clouds((60, 60, 60, 60), seed=1, spread=6)
    found = examine(dense(2, width=128), few, other, epochs=30)
    assert {"overfitting", "too-few-images"} <= set(found)
    assert "100 % of the training images are correct" in found["overfitting"].text


def test_linear_network_underfits_what_is_not_linear() -> None:
    def quadrants(points: Points, seed: int) -> Points:
        x = np.random.default_rng(seed).normal(0, 1, points.x.shape).astype(np.float32)
        return Points(x, (x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] * x[:, 3] > 0).astype(np.int64))

    train, val = quadrants(clouds((400, 400, 400, 400)), 1), quadrants(VAL, 2)
    found = examine(dense(0), train, val, epochs=4)
    assert list(found) == ["underfitting", "no-better-than-majority"]
    assert found["underfitting"].severity == "error"
    assert "underfitting" not in examine(dense(2, 64), train, val)


def test_wrong_labels_are_found() -> None:
    random = np.random.default_rng(3)
    wrong = random.random(len(TRAIN.labels)) < 0.05
    labels = np.where(wrong, (TRAIN.labels + random.integers(1, 4, len(wrong))) % 4, TRAIN.labels)
    model = dense(0)
    found = examine(model, Points(TRAIN.x, labels), config=replace(CONFIG, learning_rate=5e-3))
    assert found["wrong-labels"].severity == "warning"
    suspects = [suspect.index for suspect in find_suspects(Scored("training", model(TRAIN.x).numpy(), labels), CLASSES)]
    assert wrong[suspects].mean() > 0.9
    assert len(suspects) > wrong.sum() / 2


def test_classes_that_look_alike_are_confused() -> None:
    def alike(points: Points, seed: int) -> Points:
        labels = points.labels.copy()
        labels[labels == 1] = np.random.default_rng(seed).choice([0, 1], (labels == 1).sum())
        return Points(points.x, labels)

    found = examine(dense(0), alike(TRAIN, 1), alike(VAL, 2), config=replace(CONFIG, learning_rate=5e-3))
    assert "taken for" in found["confused-classes"].text
    assert "screw" not in found["confused-classes"].text and "washer" not in found["confused-classes"].text


def test_small_class_is_neglected() -> None:
    # Bolts and nuts overlap, so that naming the larger class pays.
    def overlapping(points: Points) -> Points:
        x = points.x.copy()
        x[points.labels == 1] += 0.85 * (x[points.labels == 0].mean(0) - x[points.labels == 1].mean(0))
        return Points(x, points.labels)

    few = clouds((300, 20, 300, 300))
    config = replace(CONFIG, learning_rate=5e-3)
    found = examine(dense(0), overlapping(few), overlapping(VAL), config)
    assert "nut (20 training images" in found["imbalance"].text
    # A class that differs from all others, and counts as much as they do, needs no more images.
    weights = tuple((len(few.labels) / len(CLASSES) / np.bincount(few.labels)).tolist())
    balanced = replace(config, balance=True)
    assert "imbalance" not in examine(dense(0), few, VAL, balanced, class_weights=weights, epochs=15)
