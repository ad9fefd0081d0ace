"""One training run: images -> split -> frozen features -> head -> scores on held-out images -> run folder."""

from __future__ import annotations

import csv
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.data import Dataset, Split, load_dataset
from edgecls.evaluate import score
from edgecls.progress import Progress, silent
from edgecls.training import run_folder
from edgecls.training.features import compute_features
from edgecls.training.model import build_mobilenet_v2, split_at_features
from edgecls.training.weights import Weights, find_weights
from edgecls.versions import tool_versions

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a run came to: the content of run.json, and what the user should know besides."""

    record: dict[str, Any]
    warnings: tuple[str, ...]


def train(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TrainResult:
    """Return the result of training a classifier on the folder `data`; `out` then holds the run.

    Raises:
        DataError: the images cannot be used. ConfigError: `out` cannot be written. WeightsError: no weights.
    """
    import keras

    started = time.monotonic()
    run_folder.check_out(out, overwrite=overwrite)
    weights = find_weights(config.weights, config.image_size, config.alpha)
    dataset = load_dataset(
        data,
        config.image_size,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        skip_bad=skip_bad,
        progress=functools.partial(progress, "read images"),
    )
    with run_folder.new_run(out) as folder:
        keras.utils.set_random_seed(config.seed)
        model = build_mobilenet_v2(config, len(dataset.classes), weights)
        history = fit_head(model, dataset, config, progress)
        record = _record(config, weights, dataset, data)
        record["metrics"], held_out_scores = _metrics(model, dataset, progress)
        record["seconds"] = round(time.monotonic() - started, 1)
        model.save(folder / run_folder.MODEL_FILE)
        run_folder.write_held_out_scores(folder, held_out_scores)
        _write_history(folder / "history.csv", history)
        run_folder.write_record(folder, record)
    return TrainResult(record, _warnings(dataset, weights))


def fit_head(model: keras.Model, dataset: Dataset, config: TrainConfig, progress: Progress) -> dict[str, list[float]]:
    """Trains the head of `model` in place on frozen features; returns the history, a list of values per epoch.

    Each epoch shows every image once: the image itself or, every second time, one of its augmented views. The epoch
    with the lowest validation loss wins.
    """
    import keras

    trunk, head = split_at_features(model)
    views = config.views if config.augment else 0
    train_features = compute_features(
        trunk,
        dataset.train.images,
        views=views,
        augment=config.augment,
        seed=config.seed,
        progress=functools.partial(progress, "features of training images"),
    )
    val_features = compute_features(
        trunk, dataset.val.images, progress=functools.partial(progress, "features of validation images")
    )[0]
    steps = config.epochs * -(-len(dataset.train.labels) // config.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    head.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True)
    show = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: progress("train head", epoch + 1, config.epochs)
    )
    fit = head.fit(
        _view_batches(train_features, dataset.train.labels, config),
        validation_data=(val_features, dataset.val.labels),
        epochs=config.epochs,
        callbacks=[stop, show],
        verbose=0,
    )
    return dict(fit.history)


def _view_batches(
    features: NDArray[np.float32], labels: NDArray[np.int64], config: TrainConfig
) -> keras.utils.PyDataset:
    """Return batches of images, half of them through one of their views (if there are any); drawn anew every epoch."""
    import keras

    class ViewBatches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(config.seed)
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(len(labels))
            view = self.random.integers(1, max(2, len(features)), len(labels))
            changed = self.random.random(len(labels)) < 0.5 if len(features) > 1 else False
            self.view = np.where(changed, view, 0)

        def __len__(self) -> int:
            return -(-len(labels) // config.batch_size)

        def __getitem__(self, batch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            chosen = self.order[batch * config.batch_size : (batch + 1) * config.batch_size]
            return features[self.view[chosen], chosen], labels[chosen]

    return ViewBatches()


def keras_scores(
    model: keras.Model, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Return the model's scores float32 (N, C), rows sum to 1, for images uint8 (N, S, S, 1)."""
    scores: NDArray[np.float32] = compute_features(model, images, progress=progress)[0]
    return scores


def _metrics(model: keras.Model, dataset: Dataset, progress: Progress) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return the metrics of run.json and the model's scores on the held-out images.

    macro_f1 and per_class are of the held-out images: the test images, or the validation images if there is no test.
    """
    parts = {"val": dataset.val} | ({"test": dataset.test} if dataset.test else {})
    scores = {
        name: keras_scores(model, part.images, functools.partial(progress, f"score {name} images"))
        for name, part in parts.items()
    }
    results = {name: score(scores[name], part.labels, dataset.classes) for name, part in parts.items()}
    final = results.get("test", results["val"])
    metrics = {
        "val_accuracy": results["val"].accuracy,
        "test_accuracy": results["test"].accuracy if "test" in results else None,
        "macro_f1": final.macro_f1,
        "per_class": final.to_json()["per_class"],
    }
    return metrics, scores.get("test", scores["val"])


def _record(config: TrainConfig, weights: Weights, dataset: Dataset, data: Path) -> dict[str, Any]:
    splits = {"train": dataset.train, "val": dataset.val} | ({"test": dataset.test} if dataset.test else {})
    held_out = "test" if dataset.test else "val"
    return {
        "format_version": 1,
        "arch": "mobilenet_v2",
        "config": dataclasses.asdict(config),
        "classes": list(dataset.classes),
        "weights": {"source": weights.source, "sha256": weights.sha256},
        "data": str(data.resolve()),
        "split": {name: _paths_by_class(split, dataset.classes) for name, split in splits.items()},
        "held_out": {"split": held_out, "sha256": run_folder.images_sha256(splits[held_out].images)},
        "train_sha256": run_folder.images_sha256(dataset.train.images),
        "skipped": [{"path": path, "reason": reason} for path, reason in dataset.bad],
        "duplicates": [list(group) for group in dataset.duplicates],
        "versions": tool_versions("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow"),
    }


def _paths_by_class(split: Split, classes: tuple[str, ...]) -> dict[str, list[str]]:
    paths = np.array(split.paths, object)
    return {name: list(paths[split.labels == index]) for index, name in enumerate(classes)}


def _write_history(path: Path, history: dict[str, list[float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([epoch + 1, *values] for epoch, values in enumerate(zip(*history.values(), strict=True)))


def _warnings(dataset: Dataset, weights: Weights) -> tuple[str, ...]:
    warnings = []
    if weights.source == "none":
        warnings.append("the frozen backbone is random (--weights none): expect poor accuracy")
    if dataset.bad:
        warnings.append(f"{len(dataset.bad)} unreadable files were skipped; run.json lists them")
    if dataset.duplicates:
        example = " = ".join(dataset.duplicates[0])
        warnings.append(
            f"{len(dataset.duplicates)} images stand in more than one split ({example}); "
            "scores on them are too good: run.json lists all"
        )
    return tuple(warnings)
