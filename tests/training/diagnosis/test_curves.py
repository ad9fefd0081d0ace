from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from fit_records import CONFIG, LAYERS, diagnosed, fast_layers, layer, normal_epochs, overfitted, scored

from edgecls.config import AugmentConfig, TrainConfig


def test_one_spike_is_noted_and_more_warn() -> None:
    losses = [1.9, 1.2, 0.8, 0.7, 30.0, 0.6, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]
    once = diagnosed(normal_epochs(largest_step_loss=losses))
    assert once["loss-spikes"].severity == "note" and "30 in epoch 5" in once["loss-spikes"].text
    losses[8] = 12.0
    assert diagnosed(normal_epochs(largest_step_loss=losses))["loss-spikes"].severity == "warning"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_loss": [2, 1, 3, 1, 3, 1, 3, 1], "val_loss": [1.0] * 8}, "jumped up in 3 of 7"),
        ({"train_loss": [9, 8, 7, 8, 7, 7, 7, 7], "val_loss": [9.0] * 8}, "stayed near 7"),
        ({"train_loss": [3.0] + [1.38] * 7, "largest_step_loss": [50.0] + [1.5] * 7}, "never fell below the baseline"),
    ],
)
def test_rate_too_high(changes: dict[str, Any], text: str) -> None:
    finding = diagnosed(normal_epochs(8, layers=fast_layers(8), **changes))["learning-rate-too-high"]
    assert text in finding.text and "--learning-rate 0.0001" in finding.remedy
    # The same losses where steps are small have another cause.
    slow = [tuple(layer(index, update_ratio=1e-3) for index in range(LAYERS))] * 8
    assert "learning-rate-too-high" not in diagnosed(normal_epochs(8, layers=slow, **changes))


def test_phase_that_forgets_what_was_learned() -> None:
    classifier, forgot = normal_epochs(phase="classifier"), normal_epochs(3, "fine-tuning", train_loss=[5, 3, 2])
    finding = diagnosed([*classifier, *forgot], TrainConfig(unfreeze=3))["learning-rate-too-high"]
    assert "the last blocks of the backbone" in finding.text and "--fine-learning-rate 1e-05" in finding.remedy
    assert "learning-rate-too-high" not in diagnosed(
        [*classifier, *normal_epochs(3, "fine-tuning", train_loss=[0.3, 0.2, 0.2])]
    )


def test_rate_too_low() -> None:
    slow: dict[str, Any] = {
        "train_loss": np.linspace(1.4, 1.3, 10),
        "val_loss": np.linspace(1.4, 1.3, 10),
        "train_accuracy": np.linspace(0.25, 0.4, 10),
        "val_accuracy": np.linspace(0.25, 0.4, 10),
    }
    layers = [tuple(layer(index, update_ratio=2e-5) for index in range(LAYERS))] * 10
    found = diagnosed(normal_epochs(10, layers=layers, **slow))
    assert list(found) == ["learning-rate-too-low"]
    assert "2e-05 of themselves" in found["learning-rate-too-low"].text
    assert "--learning-rate 0.01" in found["learning-rate-too-low"].remedy
    # Old histories have no layers: the learning rate itself shows it.
    bare = normal_epochs(10, layers=[()] * 10, learning_rate=[1e-6] * 10, **slow)
    assert list(diagnosed(bare)) == ["learning-rate-too-low"]


def test_too_few_epochs() -> None:
    falling = [0.9 * 0.8**epoch for epoch in range(5)]
    changes: dict[str, Any] = {
        "train_loss": falling,
        "val_loss": falling,
        "train_accuracy": [0.7] * 5,
        "val_accuracy": [0.7] * 5,
    }
    found = diagnosed(normal_epochs(5, **changes))
    assert list(found) == ["too-few-epochs"]
    assert "--epochs 10" in found["too-few-epochs"].remedy


def test_overfitting_names_what_is_not_tried_yet() -> None:
    finding = diagnosed(overfitted(), dataclasses.replace(CONFIG, augment=None))["overfitting"]
    assert "lowest in epoch 2" in finding.text
    assert all(option in finding.remedy for option in ("--augment", "--dropout 0.4", "--l2", "--label-smoothing"))
    tried = dataclasses.replace(CONFIG, augment=AugmentConfig(), l2=1e-4, label_smoothing=0.1)
    remedy = diagnosed(overfitted(), tried)["overfitting"].remedy
    assert not any(option in remedy for option in ("--augment", "--l2", "--label-smoothing"))


def test_gap_of_a_handful_of_images_is_chance() -> None:
    ten = scored([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [1, 0, 0, 1]])
    assert ten.accuracy == 0.8
    records = normal_epochs(val_accuracy=[0.8] * 12, train_accuracy=[0.95] * 12, val_loss=[0.3] * 6 + [0.5] * 6)
    assert "overfitting" in diagnosed(records)
    assert "overfitting" not in diagnosed(records, val=ten)


def test_kept_weights_show_overfitting_that_dropout_hid() -> None:
    train, val = scored(np.diag([200] * 4), "training"), scored(np.diag([70] * 4) + 10 * (1 - np.eye(4, dtype=int)))
    assert (
        "100 % of the training images are correct, 70 % of the"
        in diagnosed(normal_epochs(), train=train, val=val)["overfitting"].text
    )


@pytest.mark.parametrize(("accuracy", "severity"), [(0.28, "error"), (0.5, "warning"), (0.8, None)])
def test_underfitting(accuracy: float, severity: str | None) -> None:
    level: dict[str, Any] = {name: [accuracy] * 8 for name in ("train_accuracy", "val_accuracy")}
    found = diagnosed(normal_epochs(8, train_loss=[1.35] * 8, val_loss=[1.35] * 8, **level))
    assert (found["underfitting"].severity if "underfitting" in found else None) == severity


def test_majority_baseline_is_underfitting_too() -> None:
    labels = np.repeat(range(4), [270, 10, 10, 10])
    level: dict[str, Any] = {"train_accuracy": [0.9] * 8, "val_accuracy": [0.9] * 8}
    found = diagnosed(normal_epochs(8, **level), train_labels=labels)
    assert "the baseline is 90 %" in found["underfitting"].text
    # With class weights, 90 % were won otherwise.
    assert "underfitting" not in diagnosed(
        normal_epochs(8, **level), dataclasses.replace(CONFIG, balance=True), train_labels=labels
    )
