from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.export.gate import compare

CLASSES = ("a", "b", "c")


def one_hot(guesses: list[int], confidence: float = 0.8) -> NDArray[np.float32]:
    rest = (1 - confidence) / (len(CLASSES) - 1)
    scores = np.full((len(guesses), len(CLASSES)), rest, np.float32)
    scores[np.arange(len(guesses)), guesses] = confidence
    return scores


def test_equal_scores_pass_with_no_flip() -> None:
    labels = np.array([0, 1, 2, 0])
    scores = one_hot([0, 1, 2, 1])
    result = compare(scores, scores, labels, CLASSES, 0.0)
    assert (result.accuracy, result.drop, result.agreement, result.mcnemar_p) == (0.75, 0, 1, 1)
    assert result.passed and result.verdict == "passed: same result as the float model on every image"
    assert result.class_drop == {"a": 0, "b": 0, "c": 0}


def test_counts_flips_and_drop_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    float_guess = [0, 0, 0, 1, 1, 1, 2, 0]
    file_guess = [0, 1, 2, 0, 1, 0, 2, 0]
    result = compare(one_hot(file_guess, 0.5), one_hot(float_guess, 0.5), labels, CLASSES, 0.3)
    assert (result.right_to_wrong, result.wrong_to_right) == (3, 1)
    assert result.drop == pytest.approx(2 / 8)
    assert result.agreement == pytest.approx(4 / 8)
    assert result.class_drop == pytest.approx({"a": 1 / 4, "b": 1 / 2, "c": 0})
    assert result.passed and result.verdict == "passed: -25.00 points (3 got worse, 1 got better; not significant)"
    # The float model's label has 0.5 there; where the file answers otherwise it has 0.25.
    assert result.score_shift == pytest.approx(-0.25 * 4 / 8)
    assert result.score_difference == pytest.approx(0.25 * 4 / 8)


def test_one_image_more_than_allowed_fails() -> None:
    labels = np.zeros(100, np.int64)
    file_guess = [1, 2] + [0] * 98
    assert compare(one_hot(file_guess), one_hot([0] * 100), labels, CLASSES, 0.02).passed
    failed = compare(one_hot(file_guess), one_hot([0] * 100), labels, CLASSES, 0.01)
    assert not failed.passed and failed.verdict.startswith("failed: -2.00 points, at most 1.00 may be lost (")


def test_names_a_collapse_to_one_class() -> None:
    labels = np.arange(60) % 3
    result = compare(one_hot([1] * 60), one_hot(list(labels)), labels, CLASSES, 1.0)
    assert not result.passed and "labels 100 % of the images 'b'" in result.verdict


def test_names_saturated_scores_even_if_accuracy_holds() -> None:
    labels = np.arange(60) % 3
    result = compare(one_hot(list(labels), 1.0), one_hot(list(labels)), labels, CLASSES, 0.01)
    assert result.drop == 0 and not result.passed and "saturated" in result.collapse


def test_other_scores_are_named_even_if_accuracy_holds() -> None:
    labels = np.arange(60) % 3
    # Other labels, as wrong as those of the float model; then the same labels with less confidence.
    swapped = compare(one_hot(list((labels + 1) % 3)), one_hot(list((labels + 2) % 3)), labels, CLASSES, 0.01)
    assert (swapped.drop, swapped.passed) == (0, False)
    assert "collapsed: the file gives other scores, by 0.70 on average" in swapped.verdict
    unsure = compare(one_hot(list(labels), 0.5), one_hot(list(labels), 0.8), labels, CLASSES, 0.01)
    assert (unsure.drop, unsure.passed) == (0, False)
    assert unsure.score_difference == pytest.approx(0.3)
    assert compare(one_hot(list(labels), 0.6), one_hot(list(labels), 0.8), labels, CLASSES, 0.01).passed


def test_one_sided_data_is_no_collapse() -> None:
    labels = np.zeros(50, np.int64)
    assert compare(one_hot([0] * 50), one_hot([0] * 50), labels, CLASSES, 0.0).passed
