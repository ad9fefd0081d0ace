"""Records of made-up runs and what is diagnosed from them, for the tests of edgecls.training.diagnosis.diagnose*."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.training.diagnosis.diagnose import diagnose
from edgecls.training.diagnosis.finding import Finding, Scored
from edgecls.training.history import EpochRecord, LayerRecord

CLASSES = ("bolt", "nut", "screw", "washer")
CONFIG = TrainConfig(arch="cnn", image_size=64)
LAYERS = 6


def layer(
    index: int, gradient_norm: float = 1.0, update_ratio: float = 2e-3, dead_share: float | None = 0.1
) -> LayerRecord:
    return LayerRecord(f"layer_{index}", gradient_norm, update_ratio, dead_share)


def normal_epochs(epochs: int = 12, phase: str = "network", **changes: Any) -> list[EpochRecord]:
    """Return the records of a network that learns well, numbers replaced by those in `changes`, one an epoch."""
    records = []
    for epoch in range(epochs):
        fallen = 0.7**epoch
        record = EpochRecord(
            phase=phase,
            epoch=epoch + 1,
            train_loss=1.2 * fallen + 0.1,
            train_accuracy=0.95 - 0.5 * fallen,
            val_loss=1.1 * fallen + 0.2,
            val_accuracy=0.92 - 0.45 * fallen,
            learning_rate=1e-3,
            largest_step_loss=1.6 * fallen + 0.3,
            seconds=1.0,
            layers=tuple(layer(index) for index in range(LAYERS)),
        )
        records.append(dataclasses.replace(record, **{name: values[epoch] for name, values in changes.items()}))
    return records


def with_layers(*layers: LayerRecord, epochs: int = 12, phase: str = "network") -> list[EpochRecord]:
    return normal_epochs(epochs, phase, layers=[layers] * epochs)


def named(findings: Sequence[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def diagnosed(history: Sequence[EpochRecord], config: TrainConfig = CONFIG, **known: Any) -> dict[str, Finding]:
    return named(diagnose(history, config, CLASSES, **known))


def scored(confusion: Sequence[Sequence[int]] | np.ndarray, part: str = "validation", certainty: float = 0.8) -> Scored:
    """Return as many images as the matrix says, given classes in its rows, predicted ones in its columns."""
    matrix = np.array(confusion)
    given_classes, predicted = (np.repeat(index, matrix.ravel()) for index in np.indices(matrix.shape).reshape(2, -1))
    scores = np.full((len(predicted), len(matrix)), (1 - certainty) / (len(matrix) - 1))
    scores[np.arange(len(predicted)), predicted] = certainty
    return Scored(part, scores, given_classes, [f"{part}/{index}.png" for index in range(len(predicted))])


def fast_layers(epochs: int) -> list[tuple[LayerRecord, ...]]:
    return [tuple(layer(index, update_ratio=0.2) for index in range(LAYERS))] * epochs


def overfitted(epochs: int = 12) -> list[EpochRecord]:
    return normal_epochs(
        epochs,
        train_accuracy=np.linspace(0.6, 1.0, epochs),
        val_accuracy=[0.7] * epochs,
        val_loss=[0.8, 0.7, *np.linspace(0.7, 1.5, epochs - 2)],
    )
