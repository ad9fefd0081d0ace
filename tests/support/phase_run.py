"""Runs of phases on a small MobileNetV2 and the small networks, for the tests of edgecls.training.phases."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.images.dataset import Dataset, Split
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights
from edgecls.training.context import Context
from edgecls.training.phases import Training, run_phases

SIZE, CLASSES = 32, 3
CONFIG = TrainConfig(
    image_size=SIZE,
    alpha=0.35,
    # What a phase does hardly depends on how many there are, and more would take longer to build and to run.
    blocks=4,
    weights="none",
    effort="quick",
    epochs=4,
    augmented_copies=1,
    batch_size=8,
    learning_rate=0.02,
    schedule="cosine",
    fine_epochs=2,
    fine_learning_rate=1e-3,
    augment=AugmentConfig("none", 0, 0.02, 0.02, 0.02, 0.02),
)
# The settings of steps at their defaults, so that the classifier is solved.
SOLVED: dict[str, Any] = {
    name: getattr(TrainConfig(), name) for name in ("epochs", "batch_size", "learning_rate", "schedule", "patience")
}
# Settings that make another network; the seed draws its weights.
NETWORK = {"image_size", "alpha", "blocks", "arch", "head", "gray_to_rgb", "filters", "hidden", "dropout", "seed"}
SMALL: dict[str, Any] = {"blocks": None, "effort": None, "learning_rate": None, "epochs": 6, "augment": None}


def draw(count: int, seed: int) -> Split:
    """Return dark, bright and striped images with noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    levels = np.array([np.full(SIZE, 50), np.full(SIZE, 200), np.where(np.arange(SIZE) % 8 < 4, 50, 200)])
    images = levels[labels][:, :, np.newaxis, np.newaxis] + random.integers(-20, 21, (count, SIZE, SIZE, 1))
    return Split(tuple(f"{number}.png" for number in range(count)), images.astype(np.uint8), labels)


def make_dataset(train: Split, val: Split) -> Dataset:
    return Dataset(Path("/none"), ("dark", "bright", "striped"), train, val, None, (), ())


TRAIN, VAL = draw(36, 0), draw(18, 1)
DATA = make_dataset(TRAIN, VAL)
SWAPPED = make_dataset(TRAIN, dataclasses.replace(VAL, labels=np.array([1, 2, 0])[VAL.labels]))


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a run came to, and the weights before and after; the model itself belongs to the next run."""

    training: Training
    before: dict[str, NDArray[Any]]
    after: dict[str, NDArray[Any]]
    accuracy: float

    @property
    def changed(self) -> set[str]:
        """Return the names of the layers that are no longer what they were."""
        changed = {path.split("/")[0] for path, value in self.after.items() if (value != self.before[path]).any()}
        return {name for name in changed if not name.startswith("seed_generator")}


def variables_of(model: keras.Model) -> dict[str, Any]:
    """Return all there is to a model, the state of dropout's random numbers included."""
    return {variable.path: variable for layer in model.layers for variable in layer.variables}


@functools.cache
def built(config: TrainConfig) -> tuple[keras.Model, dict[str, NDArray[Any]]]:
    weights = Weights("none", None, None, "keras") if config.uses_backbone else None
    model = build_model(config, CLASSES, weights)
    return model, {path: variable.numpy() for path, variable in variables_of(model).items()}


def build(config: TrainConfig) -> keras.Model:
    """Return the untrained network; one is built for all tests that use the same."""
    same = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in NETWORK}
    model, fresh = built(TrainConfig(**same))
    for path, variable in variables_of(model).items():
        variable.assign(fresh[path])
    return model


def run(cache: Path, dataset: Dataset = DATA, **changes: Any) -> Ran:
    names = {field.name for field in dataclasses.fields(Context)}
    options = {name: changes.pop(name) for name in list(changes) if name in names}
    config = dataclasses.replace(CONFIG, **changes)
    model = build(config)
    before = {path: variable.numpy() for path, variable in variables_of(model).items()}
    training = run_phases(Context(model, dataset, config, cache=cache, **options))
    after = {path: variable.numpy() for path, variable in variables_of(model).items()}
    right = model(dataset.val.images, training=False).numpy().argmax(1) == dataset.val.labels
    return Ran(training, before, after, float(right.mean()))


def assert_same_weights(one: Ran, other: Ran) -> None:
    for path, array in one.after.items():
        if "seed" not in path:
            np.testing.assert_array_equal(array, other.after[path], err_msg=path)


def stages_of(calls: list[tuple[Any, ...]]) -> list[str]:
    return list(dict.fromkeys(stage for stage, *_ in calls))
