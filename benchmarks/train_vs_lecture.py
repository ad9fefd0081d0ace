"""How soon edgecls train is as good as ten epochs of the lecture's recipe, on the same images and machine.

    python benchmarks/train_vs_lecture.py DATA --name magnetic-tile

The lecture's side is its own notebook in plain Keras, nothing of ours but the images: 256x256, Rescaling, a random
1-to-3 convolution (its padding fixed, without which it does not build), MobileNetV2 frozen with the same ImageNet
weights, Flatten, Dense 32, Adam 1e-3, batches of 32. Its Dense layer sees 81,920 inputs, none below zero, and with most
seeds its ReLUs die in the first epoch: try some and take the one that learns (`--seed`). Its epochs and our whole runs
take turns, so that a noisy moment of the machine hits both. Ours begins every time with an empty cache and ends with
the run folder written.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, Watch, write_record

from edgecls.config import TrainConfig
from edgecls.evaluate import score
from edgecls.images.dataset import Dataset, load_dataset
from edgecls.output_capture import quietly

LECTURE_SIZE = 256
EPOCHS = 10
OUR_RUNS = 3


def build_lecture(class_count: int) -> Any:
    """Return the lecture's transfer network, compiled."""
    import keras
    from keras import layers

    from edgecls.networks.weights import find_weights, load_into

    backbone = keras.applications.MobileNetV2(
        input_shape=(LECTURE_SIZE, LECTURE_SIZE, 3), include_top=False, weights=None
    )
    load_into(backbone, find_weights("auto", LECTURE_SIZE, 1.0))
    backbone.trainable = False
    model = keras.Sequential(
        [
            layers.Input((LECTURE_SIZE, LECTURE_SIZE, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, (3, 3), padding="same"),
            backbone,
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def lecture_epoch(model: Any, dataset: Dataset) -> dict[str, float]:
    """Return seconds and validation accuracy of one epoch as the lecture runs it."""
    began = time.perf_counter()
    validation = (dataset.val.images, dataset.val.labels)
    fit = model.fit(dataset.train.images, dataset.train.labels, batch_size=32, validation_data=validation, verbose=0)
    return {"seconds": time.perf_counter() - began, "val_accuracy": fit.history["val_accuracy"][-1]}


def test_scores(model: Any, dataset: Dataset) -> dict[str, float]:
    """Return accuracy and macro-F1 on the test images; not timed."""
    assert dataset.test is not None
    result = score(model.predict(dataset.test.images, verbose=0), dataset.test.labels, dataset.classes)
    return {"accuracy": result.accuracy, "macro_f1": result.macro_f1}


def our_run(data: Path, config: TrainConfig) -> dict[str, Any]:
    """Return seconds and test scores of one whole run of edgecls, its cache empty, and when each epoch was how good."""
    from edgecls.report.pictures import PICTURES
    from edgecls.training.train import train

    epochs: list[dict[str, float]] = []

    def watch(stage: str, done: int, total: int, note: str = "", /) -> None:
        if stage.startswith("train "):
            val_accuracy = float(note.split(",")[0].removeprefix("val "))
            epochs.append({"at_seconds": time.perf_counter() - began, "val_accuracy": val_accuracy})

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        began = time.perf_counter()
        record = train(data, Path(folder) / "run", config, pictures=PICTURES, progress=watch).record
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "epochs": epochs,
        "accuracy": record["metrics"]["test_accuracy"],
        "macro_f1": record["metrics"]["macro_f1"],
        "head_epochs": record["phases"][0]["epochs"],
    }


def compare(data: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Return all epochs of the lecture, in turns with our runs, and the test scores of its best one."""
    import keras

    config = TrainConfig()
    split = {name: getattr(config, name) for name in ("val_fraction", "test_fraction", "seed")}
    dataset = load_dataset(data, LECTURE_SIZE, **split)
    keras.utils.set_random_seed(seed)
    lecture = build_lecture(len(dataset.classes))
    done: list[dict[str, float]] = []
    best: Any = None
    ours: list[dict[str, Any]] = []
    turns = set(np.linspace(0, epochs - 1, OUR_RUNS).astype(int).tolist())
    for epoch in range(epochs):
        done.append(lecture_epoch(lecture, dataset))
        if done[-1]["val_accuracy"] > max([0.0, *(before["val_accuracy"] for before in done[:-1])]):
            best = lecture.get_weights()
        print(f"lecture epoch {epoch + 1}: {done[-1]['seconds']:.1f} s, val {done[-1]['val_accuracy']:.4f}", flush=True)
        if epoch in turns:
            ours.append(our_run(data, config))
            print(f"edgecls run {len(ours)}: {ours[-1]['seconds']:.1f} s, test {ours[-1]['accuracy']:.4f}", flush=True)
    lecture.set_weights(best)
    return {
        "images": len(dataset.train.labels),
        "lecture_seed": seed,
        "lecture_best": test_scores(lecture, dataset),
        "lecture_epochs": done,
        "edgecls_runs": ours,
    }


def judge(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the ratios of the lecture's time to its best validation accuracy over ours to the same, and over all."""
    lecture, ours = measured["lecture_epochs"], measured["edgecls_runs"]
    best = int(np.argmax([epoch["val_accuracy"] for epoch in lecture]))
    goal = lecture[best]["val_accuracy"]
    as_good = [
        next((epoch["at_seconds"] for epoch in run["epochs"] if epoch["val_accuracy"] >= goal), float("inf"))
        for run in ours
    ]
    to_best = sum(epoch["seconds"] for epoch in lecture[: best + 1])
    everything = sum(epoch["seconds"] for epoch in lecture)
    return {
        "lecture_best_epoch": best + 1,
        "lecture_best_val_accuracy": goal,
        "lecture_accuracy": measured["lecture_best"]["accuracy"],
        "lecture_macro_f1": measured["lecture_best"]["macro_f1"],
        "edgecls_accuracy": [run["accuracy"] for run in ours],
        "edgecls_macro_f1": [run["macro_f1"] for run in ours],
        "ratio_until_as_good": sorted(to_best / seconds for seconds in as_good),
        "ratio_of_whole_runs": sorted(everything / run["seconds"] for run in ours),
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    epochs = [epoch["seconds"] for epoch in record["lecture_epochs"]]
    runs = [run["seconds"] for run in record["edgecls_runs"]]
    as_good = record["ratio_until_as_good"]
    best = (f"{min(record[f'edgecls_{name}']):.3f}" for name in ("accuracy", "macro_f1"))
    return [
        ["", "test accuracy", "macro F1", "time"],
        [
            f"lecture: 256x256, everything through the backbone in every epoch, {len(epochs)} epochs",
            f"{record['lecture_accuracy']:.3f}",
            f"{record['lecture_macro_f1']:.3f}",
            f"{sum(epochs):.0f} s ({min(epochs):.0f} to {max(epochs):.0f} s an epoch)",
        ],
        [
            f"`edgecls train`, {len(runs)} runs: the worst",
            *(f"**{figure}**" for figure in best),
            f"{max(runs):.0f} s with its run folder written; as good as the lecture's best epoch "
            f"{min(as_good):.1f} to {max(as_good):.1f} times sooner",
        ],
    ]


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0, help="of the lecture's side (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quietly("import of TensorFlow"):
        import tensorflow as tf

        tf.zeros(1)
    watch = Watch()
    measured = compare(arguments.data, arguments.epochs, arguments.seed)
    outcome = judge(measured)
    for name, value in outcome.items():
        print(f"{name:24} {value}")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"data": arguments.name, "peak_rss_mb": peak_rss_mb, **outcome, **measured}
    print(write_record(f"train-vs-lecture-{arguments.name}", figures, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
