"""Tiny images to train on, and a run with what it said and left, for the tests of edgecls.training.train."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split, load_paths
from edgecls.training.features.forward import fastest_forward, run_all
from edgecls.training.run.run_folder import load_model
from edgecls.training.train import TrainResult, train

if TYPE_CHECKING:
    import keras

SIZE = 32
CONFIG = TrainConfig(
    image_size=SIZE,
    alpha=0.35,
    # More would only take longer to build and to run.
    blocks=4,
    weights="none",
    effort="quick",
    epochs=30,
    augmented_copies=1,
    patience=5,
    learning_rate=0.02,
)
# Two thirds of the images of each class are left to learn from.
PER_CLASS = 9
FILES = {"model.keras", "run.json", "history.csv", "history.json", "held-out-scores.npy", "mistakes.csv", "plots"}


def make_images(root: Path, seed: int = 0) -> Path:
    """Bright, dark and striped pictures of an odd size, with noise: a small network can tell them apart."""
    random = np.random.default_rng(seed)
    levels = {"bright": np.full(40, 200), "dark": np.full(40, 50), "striped": np.where(np.arange(40) % 8 < 4, 50, 200)}
    for name, level in levels.items():
        (root / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            noise = random.integers(-20, 21, (40, 36))
            Image.fromarray((level[:, np.newaxis] + noise).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@dataclasses.dataclass(frozen=True)
class Run:
    result: TrainResult
    out: Path
    progress: list[tuple[Any, ...]]

    @property
    def record(self) -> dict[str, Any]:
        return self.result.record

    def load_split(self, part: str) -> Split:
        """Return the images of a part as run.json lists them."""
        listed = [
            (path, label)
            for label, name in enumerate(self.record["classes"])
            for path in self.record["split"][part][name]
        ]
        paths, labels = zip(*listed, strict=True)
        return load_paths(Path(self.record["data"]), paths, labels, SIZE, SIZE)

    def history(self) -> dict[str, list[Any]]:
        """Return history.csv by columns."""
        with (self.out / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [row[name] if name == "phase" else float(row[name]) for row in rows] for name in rows[0]}


def run_train(data: Path, out: Path, config: TrainConfig = CONFIG, **options: Any) -> Run:
    progress: list[tuple[Any, ...]] = []
    result = train(data, out, config, progress=lambda *call: progress.append(call), **options)
    return Run(result, out, progress)


def keras_scores(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the model's scores float32 (N, C) of images uint8 (N, S, S, 1), as a run takes them."""
    return run_all(fastest_forward(model, images, len(images)), images)


def val_loss(run: Run) -> float:
    split = run.load_split("val")
    scores = keras_scores(load_model(run.out), split.images)
    return float(-np.log(scores[np.arange(len(scores)), split.labels]).mean())
