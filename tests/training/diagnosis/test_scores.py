from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fit_records import CONFIG, diagnosed, normal_epochs, scored

from edgecls.config import TrainConfig
from edgecls.training.diagnosis.diagnose import diagnose
from edgecls.training.diagnosis.finding import Scored
from edgecls.training.diagnosis.scores import find_suspects


def mislabeled(wrong: int, images: int = 400, certainty: float = 0.97) -> Scored:
    matrix = np.diag([images // 4] * 4)
    matrix[1, 1], matrix[1, 2] = matrix[1, 1] - wrong, wrong
    return scored(matrix, "training", certainty)


@pytest.mark.parametrize(("wrong", "severity"), [(0, None), (2, None), (5, "note"), (20, "warning")])
def test_wrong_labels(wrong: int, severity: str | None) -> None:
    found = diagnosed(normal_epochs(), train=mislabeled(wrong))
    assert (found["wrong-labels"].severity if "wrong-labels" in found else None) == severity


def test_wrong_labels_shows_images_of_both_parts() -> None:
    val = dataclasses.replace(mislabeled(1), part="validation")
    finding = diagnosed(normal_epochs(), train=mislabeled(20), val=val)["wrong-labels"]
    assert "20 of 400 training images and 1 of 400 validation images" in finding.text
    assert "training/180.png is labeled nut but looks like screw (97 %)" in finding.text


def test_suspects_are_confident_stable_mistakes_in_order() -> None:
    # Given a a a b b; the second image is doubted most, the third only in one look, the fourth only a little.
    sure = [[0.99, 0.01], [0.02, 0.98], [0.05, 0.95], [0.6, 0.4], [0.05, 0.95]]
    copy = [[0.99, 0.01], [0.02, 0.98], [0.60, 0.40], [0.6, 0.4], [0.05, 0.95]]
    labels, paths = np.array([0, 0, 0, 1, 1]), list("vwxyz")
    (suspect,) = find_suspects(Scored("training", np.array([sure, copy]), labels, paths), ("a", "b"))
    assert (suspect.path, suspect.index, suspect.given, suspect.predicted) == ("w", 1, "a", "b")
    assert suspect.score == pytest.approx(0.98)
    single = find_suspects(Scored("training", np.array(sure), labels), ("a", "b"))
    assert [(suspect.index, suspect.path) for suspect in single] == [(1, "training image 1"), (2, "training image 2")]


def test_network_that_learned_nothing_suspects_nobody() -> None:
    always_bolt = scored([[100, 0, 0, 0]] * 4, "training", 0.99)
    found = diagnosed(normal_epochs(), train=always_bolt, val=dataclasses.replace(always_bolt, part="validation"))
    assert not {"wrong-labels", "confused-classes"} & set(found)


def test_confused_classes_are_pairs_with_rates() -> None:
    found = diagnosed(normal_epochs(), val=scored([[95, 5, 0, 0], [0, 60, 40, 0], [0, 0, 100, 0], [0, 0, 0, 100]]))
    assert "nut taken for screw in 40 of 100 images (40 %)" in found["confused-classes"].text
    assert "bolt" not in found["confused-classes"].text
    # One of three images proves nothing.
    assert "confused-classes" not in diagnosed(
        normal_epochs(), val=scored([[2, 1, 0, 0], *np.diag([3] * 4)[1:].tolist()])
    )


def test_too_few_images_depends_on_what_is_learned() -> None:
    labels = np.repeat(range(4), [150, 150, 150, 50])
    assert "washer has 50 training images" in diagnosed(normal_epochs(), train_labels=labels)["too-few-images"].text
    assert "too-few-images" not in diagnosed(normal_epochs(), TrainConfig(), train_labels=labels)
    found = diagnosed(normal_epochs(phase="classifier"), TrainConfig(), train_labels=labels[:-35])
    assert list(found) == ["too-few-images"] and "washer has 15 training images" in found["too-few-images"].text


def test_imbalance_matters_where_the_small_class_pays() -> None:
    labels = np.repeat(range(4), [900, 900, 900, 110])
    pays = scored([[100, 0, 0, 0], [0, 100, 0, 0], [0, 0, 100, 0], [9, 0, 0, 6]])
    finding = diagnosed(normal_epochs(), train_labels=labels, val=pays)["imbalance"]
    assert "washer (110 training images, 6 of 15 correct)" in finding.text and "--balance" in finding.remedy
    balanced = dataclasses.replace(CONFIG, balance=True)
    assert "--balance" not in diagnosed(normal_epochs(), balanced, train_labels=labels, val=pays)["imbalance"].remedy
    fine = scored(np.diag([100, 100, 100, 15]))
    assert "imbalance" not in diagnosed(normal_epochs(), train_labels=labels, val=fine)


def test_one_of_several_small_classes_is_low_by_chance() -> None:
    labels = np.repeat(range(4), [900, 60, 60, 60])
    matrix = np.array([[94, 2, 2, 2], [4, 6, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]])
    assert "imbalance" not in diagnosed(normal_epochs(), train_labels=labels, val=scored(matrix))
    matrix[1] = [8, 2, 0, 0]
    assert "nut (60" in diagnosed(normal_epochs(), train_labels=labels, val=scored(matrix))["imbalance"].text


def test_lists_of_classes_are_capped() -> None:
    classes = [f"class {index}" for index in range(800)]
    few = diagnose(normal_epochs(), CONFIG, classes, train_labels=np.arange(800))
    (text,) = (finding.text for finding in few if finding.name == "too-few-images")
    assert len(text) < 200 and "and 795 more" in text
