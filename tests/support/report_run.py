"""A run folder made by hand in a moment, with whatever figures a test needs, for the tests of edgecls.report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgecls.config import TrainConfig
from edgecls.evaluate import score
from edgecls.training.history import EpochRecord, LayerRecord
from edgecls.training.run import run_folder

CLASSES = ("bolt", "nut", "Mutter ä")
PER_CLASS = 6


def epoch(number: int, phase: str = "classifier", layers: Sequence[LayerRecord] = (), **changes: Any) -> EpochRecord:
    """An epoch that is better than the one before it."""
    record = EpochRecord(
        phase=phase,
        epoch=number,
        train_loss=1 / number,
        train_accuracy=1 - 0.5 / number,
        val_loss=1.2 / number,
        val_accuracy=1 - 0.6 / number,
        learning_rate=0.005,
        largest_step_loss=2 / number,
        seconds=0.5,
        layers=tuple(layers),
    )
    return dataclasses.replace(record, **changes)


def layer(name: str, ratio: float, dead: float | None = None) -> LayerRecord:
    return LayerRecord(name, gradient_norm=ratio * 10, update_ratio=ratio, dead_share=dead)


def make_scores(classes: int, wrong: Sequence[tuple[int, int, float]] = ()) -> np.ndarray:
    """Scores of `PER_CLASS` images a class, all correct at 0.9 except `wrong`: (image, predicted class, its score)."""
    truth = np.repeat(np.arange(classes), PER_CLASS)
    scores = np.full((len(truth), classes), 0.1 / (classes - 1), np.float32)
    scores[np.arange(len(truth)), truth] = 0.9
    for image, answer, confidence in wrong:
        scores[image] = (1 - confidence) / (classes - 1)
        scores[image, answer] = confidence
    return scores


def make_run(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    wrong: Sequence[tuple[int, int, float]] = ((0, 1, 0.8), (7, 0, 0.95)),
    config: TrainConfig | None = None,
    **record: Any,
) -> Path:
    """Return folder/run of a run whose images lie in folder/images; `record` goes into its run.json."""
    paths: dict[str, list[str]] = {}
    for index, name in enumerate(classes):
        # Not named after the class, which may be no file name.
        place = folder / "images" / str(index)
        place.mkdir(parents=True)
        paths[name] = [f"{index}/{number}.png" for number in range(PER_CLASS)]
        for path in paths[name]:
            Image.new("L", (20, 16), 40 * index % 256).save(folder / "images" / path)
    run = folder / "run"
    run.mkdir()
    scores = make_scores(len(classes), wrong)
    result = score(scores, np.repeat(np.arange(len(classes)), PER_CLASS), classes)
    run_folder.write_scores(run / run_folder.SCORES_FILE, scores)
    run_folder.write_history(run, [epoch(1, layers=[layer("scores", 1e-3)]), epoch(2)])
    known = {
        "arch": "mobilenet_v2",
        "train_sha256": "0" * 64,
        "config": dataclasses.asdict(config or TrainConfig()),
        "classes": list(classes),
        "weights": {"source": "none", "sha256": None},
        "data": str(folder / "images"),
        "split": {"train": paths, "val": paths, "test": paths},
        "held_out": {"split": "test", "sha256": ""},
        "metrics": {"val_accuracy": 0.9, "test_accuracy": result.accuracy, "macro_f1": result.macro_f1},
    }
    run_folder.write_record(run, known | record)
    return run
