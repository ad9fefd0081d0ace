from __future__ import annotations

import numpy as np
import pytest

from edgecls.sweep import leave_one_out
from edgecls.sweep.leave_one_out import label_each_from_the_others

RANDOM = np.random.default_rng(0)


def label_by_training(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> list[int]:
    """Return the label of each image by a ridge regression without it."""
    scaled = (features - features.mean(0)) / features.std(0)
    design = np.column_stack([scaled, np.ones(len(scaled))])
    wanted, found = np.eye(classes)[labels], []
    # The constant is not penalized.
    weights = np.diag([penalty] * features.shape[1] + [0])
    for left_out in range(len(labels)):
        rows = np.arange(len(labels)) != left_out
        solved = np.linalg.solve(design[rows].T @ design[rows] + weights, design[rows].T @ wanted[rows])
        found.append(int((design[left_out] @ solved).argmax()))
    return found


@pytest.mark.parametrize(("images", "columns"), [(40, 6), (20, 60)])
@pytest.mark.parametrize("penalty", [1.0, 30.0])
def test_labels_are_those_of_a_training_without_the_image(
    images: int, columns: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(images) % 3
    features = RANDOM.normal(0, 1, (images, columns)) + 2 / columns**0.5 * RANDOM.normal(0, 1, (3, columns))[labels]
    monkeypatch.setattr(leave_one_out, "PENALTIES", (penalty,))
    found = label_each_from_the_others(features.astype(np.float64), labels, 3)
    assert found.tolist() == label_by_training(features, labels, 3, penalty)
    # Neither all correct nor all wrong, or nothing would be compared.
    assert 0.1 < (found == labels).mean() < 1


def test_the_penalty_with_the_most_correct_labels_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(60) % 4
    features = (RANDOM.normal(0, 1, (60, 50)) + 0.3 * RANDOM.normal(0, 1, (4, 50))[labels]).astype(np.float16)
    penalties, correct = leave_one_out.PENALTIES, []
    for penalty in penalties:
        monkeypatch.setattr(leave_one_out, "PENALTIES", (penalty,))
        correct.append((label_each_from_the_others(features, labels, 4) == labels).sum())
    monkeypatch.setattr(leave_one_out, "PENALTIES", penalties)
    assert (label_each_from_the_others(features, labels, 4) == labels).sum() == max(correct) > min(correct)


def test_noise_is_not_learned_exactly() -> None:
    labels = RANDOM.integers(0, 2, 100)
    found = label_each_from_the_others(RANDOM.normal(0, 1, (100, 300)).astype(np.float16), labels, 2)
    assert (found == labels).mean() < 0.7


def test_constant_features_give_the_most_frequent_class() -> None:
    labels = np.array([0] * 7 + [1] * 3)
    assert (label_each_from_the_others(np.full((10, 4), 2, np.float16), labels, 2) == 0).all()
