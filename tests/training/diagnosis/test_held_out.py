from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from fit_records import CONFIG, diagnosed, normal_epochs, scored

from edgecls.config import TrainConfig
from edgecls.training.diagnosis.finding import Scored

BACKBONE = TrainConfig(image_size=128)


def answers(majority: int, found: int, certainty: float = 0.9) -> np.ndarray:
    """100 images of which `majority` are of the first class, and of the others `found` are recognized."""
    matrix = np.zeros((4, 4), int)
    matrix[0, 0] = majority
    matrix[1] = [100 - majority - found, found, 0, 0]
    return matrix


@pytest.mark.parametrize(
    ("matrix", "severity"),
    [
        (answers(70, 0), "error"),  # always the largest class
        (answers(70, 5), "error"),  # 75 %, and by chance it could be 70 %
        (answers(70, 25), None),
        (np.full((4, 4), 6), "error"),  # chance
        (np.diag([90, 3, 3, 3]) + np.diag([0, 1, 1], 1), None),
        # Defects are found at the price of as many false alarms: not more accurate, but useful.
        (np.array([[85, 5, 0, 0], [1, 9, 0, 0], [0] * 4, [0] * 4]), "warning"),
    ],
)
def test_a_network_must_beat_the_majority_clearly(matrix: np.ndarray, severity: str | None) -> None:
    found = diagnosed(normal_epochs(), val=scored(matrix))
    assert (found["no-better-than-majority"].severity if "no-better-than-majority" in found else None) == severity
    assert severity is None or "no-problems" not in found


def test_the_majority_is_named_and_the_first_remedy_fits() -> None:
    val = scored(answers(70, 3))
    finding = diagnosed(normal_epochs(), val=val)["no-better-than-majority"]
    assert "always answering bolt: 73 of 100 validation images are correct (73.0 %" in finding.text
    assert "mean recall of the classes is 55 %; by chance it is 50 %" in finding.text
    assert finding.remedy.startswith("--arch mobilenet_v2")
    assert diagnosed(normal_epochs(), BACKBONE, val=val)["no-better-than-majority"].settings == {"balance": True}
    preset = dataclasses.replace(BACKBONE, preset="lecture-transfer")
    assert "--preset" in diagnosed(normal_epochs(), preset, val=val)["no-better-than-majority"].remedy
    # Its consequences are not listed as problems of their own.
    labels = np.repeat(range(4), [700, 100, 100, 100])
    found = diagnosed(normal_epochs(), val=scored(answers(70, 0)), train_labels=labels)
    assert not {"imbalance", "confused-classes", "calibration"} & set(found)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_training_that_was_too_short_is_named(epochs: int) -> None:
    level: dict[str, Any] = {"val_accuracy": [0.72] * epochs}
    found = diagnosed(normal_epochs(epochs, **level), val=scored(answers(70, 2)))
    assert ("too-short" in found) == (epochs < 3)
    if epochs < 3:
        assert f"ended after {epochs} epoch" in found["too-short"].text and "--epochs 60" in found["too-short"].remedy
        assert found["no-better-than-majority"].remedy.startswith("--epochs 60")


def test_short_training_that_learned_all_is_no_problem() -> None:
    assert "too-short" not in diagnosed(normal_epochs(2, val_accuracy=[0.98] * 2))
    # Solved at once, which is recorded as one epoch without a learning rate.
    solved = normal_epochs(1, "classifier", learning_rate=[0.0], val_accuracy=[0.7])
    assert "too-short" not in diagnosed(solved, BACKBONE)
    # A phase after it learned more.
    longer = [*normal_epochs(1, "classifier", val_accuracy=[0.7]), *normal_epochs(8, "fine-tuning")]
    assert "too-short" not in diagnosed(longer, dataclasses.replace(BACKBONE, unfreeze=3))


@pytest.mark.parametrize(
    ("correct", "images", "few"), [(4, 4, True), (9, 10, True), (30, 40, True), (80, 100, False), (190, 200, False)]
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_few_held_out_images_prove_nothing(correct: int, images: int, few: bool, part: str) -> None:
    quarter = images // 4
    matrix = np.diag([quarter, quarter, quarter, images - 3 * quarter])
    matrix[0, 1], matrix[0, 0] = min(quarter, images - correct), max(0, quarter - images + correct)
    matrix[1, 2] = images - correct - matrix[0, 1]
    matrix[1, 1] -= matrix[1, 2]
    known: dict[str, Any] = {"val" if part == "validation" else "test": scored(matrix, part, 0.9)}
    found = diagnosed(normal_epochs(), **known)
    assert (f"too-few-{part}-images" in found) == few
    assert "no-problems" not in found or not few
    if images == 4:
        # Wilson's interval of 4 in 4.
        text = found[f"too-few-{part}-images"].text
        assert "4 of 4" in text and "51 % to 100 %" in text


def test_a_tiny_validation_folder_is_better_removed() -> None:
    labels = np.repeat(range(4), 250)
    finding = diagnosed(normal_epochs(), val=scored(np.eye(4, dtype=int)), train_labels=labels)[
        "too-few-validation-images"
    ]
    assert finding.remedy.startswith("Remove the folder val: then 150 of the training images")
    assert "left to chance" in finding.text
    # Large groups leave as few, and there is no such folder; nor is there one beside a table.
    for settings, remedy in (
        ({"group": "part"}, "Give a --group that makes more groups, or remove the folder val if there is one: then"),
        ({"labels": ("labels.csv",)}, "Add validation images"),
    ):
        config = dataclasses.replace(CONFIG, **settings)
        found = diagnosed(normal_epochs(), config, val=scored(np.eye(4, dtype=int)), train_labels=labels)
        assert found["too-few-validation-images"].remedy.startswith(remedy)
    few = diagnosed(normal_epochs(), val=scored(np.eye(4, dtype=int)), train_labels=np.repeat(range(4), 6))
    assert few["too-few-validation-images"].remedy.startswith("Add validation images")


def part_of(correct: int, part: str) -> Scored:
    matrix = np.diag([25] * 4)
    matrix[0, 1] = matrix[1, 2] = matrix[2, 3] = matrix[3, 0] = (100 - correct) // 4
    return scored(matrix - np.diag([(100 - correct) // 4] * 4), part, 0.9)


@pytest.mark.parametrize(
    ("val", "test", "name"),
    [
        (96, 96, None),
        (96, 88, None),
        (96, 80, "test-below-validation"),
        (96, 40, "test-below-validation"),
        (80, 96, "validation-below-test"),
    ],
)
def test_validation_and_test_must_agree(val: int, test: int, name: str | None) -> None:
    found = diagnosed(normal_epochs(), val=part_of(val, "validation"), test=part_of(test, "test"))
    assert {"test-below-validation", "validation-below-test"} & set(found) == ({name} if name else set())
    assert name is None or (f"{val} of 100" in found[name].text and f"{test} of 100" in found[name].text)


@pytest.mark.parametrize(("certainty", "what"), [(0.99, "too high"), (0.8, None), (0.5, "too low")])
def test_scores_must_mean_what_they_say(certainty: float, what: str | None) -> None:
    # 80 % of 200 images are correct.
    val = scored(part_of(80, "validation").confusion * 2, certainty=certainty)
    found = diagnosed(normal_epochs(), val=val)
    assert ("calibration" in found) == (what is not None)
    if what:
        assert what in found["calibration"].text and "80 % of the 200 validation images" in found["calibration"].text
    # So few images are off by chance.
    few = scored(np.diag([5, 5, 5, 4]) + np.diag([0, 0, 1], 1), certainty=0.8)
    assert "calibration" not in diagnosed(normal_epochs(), val=few)


def test_the_remedy_for_calibration_depends_on_the_direction() -> None:
    high = scored(part_of(80, "validation").confusion, certainty=0.99)
    assert diagnosed(normal_epochs(), val=high)["calibration"].settings == {"label_smoothing": 0.1}
    smoothed = dataclasses.replace(CONFIG, label_smoothing=0.2)
    assert diagnosed(normal_epochs(), smoothed, val=high)["calibration"].settings == {}
    low = scored(part_of(80, "validation").confusion, certainty=0.4)
    assert diagnosed(normal_epochs(), smoothed, val=low)["calibration"].settings == {"label_smoothing": 0.0}


@pytest.mark.parametrize(
    ("side", "correct", "reported"), [(50, 88, True), (64, 88, True), (50, 96, False), (96, 80, False)]
)
def test_images_can_be_too_small_for_the_backbone(side: int, correct: int, reported: bool) -> None:
    config = TrainConfig(image_size=side)
    found = diagnosed(normal_epochs(phase="classifier"), config, val=part_of(correct, "validation"))
    assert ("images-too-small" in found) == reported
    if reported:
        assert "see 2 x 2 places" in found["images-too-small"].text
        assert "--image-size 128" in found["images-too-small"].remedy
    other = dataclasses.replace(CONFIG, image_size=50)
    assert "images-too-small" not in diagnosed(normal_epochs(), other, val=part_of(80, "validation"))
