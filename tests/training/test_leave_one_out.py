from __future__ import annotations

import numpy as np
import pytest

from edgecls.training import leave_one_out
from edgecls.training.leave_one_out import label_each_from_the_others

RANDOM = np.random.default_rng(0)


def label_by_training(
    features: np.ndarray, labels: np.ndarray, classes: int, penalty: float, groups: np.ndarray | None = None
) -> list[int]:
    """Return the label of each image by a ridge regression without it, and without others of its group."""
    scaled = (features - features.mean(0)) / features.std(0)
    design = np.column_stack([scaled, np.ones(len(scaled))])
    wanted, found = np.eye(classes)[labels], []
    # The constant is not penalized.
    weights = np.diag([penalty] * features.shape[1] + [0])
    for left_out in range(len(labels)):
        rows = np.arange(len(labels)) != left_out if groups is None else groups != groups[left_out]
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


@pytest.mark.parametrize(("images", "columns"), [(40, 6), (20, 60)])
def test_groups_are_left_out_together(images: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, groups = np.arange(images) % 3, np.arange(images) // 6
    features = RANDOM.normal(0, 1, (images, columns)) + 2 / columns**0.5 * RANDOM.normal(0, 1, (3, columns))[labels]
    monkeypatch.setattr(leave_one_out, "PENALTIES", (10.0,))
    # The last two images stand alone.
    alone = np.concatenate([groups[:-2], [98, 99]])
    names = ["" if group > 90 else str(group) for group in alone]
    found = label_each_from_the_others(features.astype(np.float64), labels, 3, names)
    assert found.tolist() == label_by_training(features, labels, 3, 10.0, alone)
    assert found.tolist() != label_by_training(features, labels, 3, 10.0)


def test_shots_of_one_object_do_not_tell_each_others_class() -> None:
    """Each object has features of its own, and no feature says the class."""
    objects = np.repeat(np.arange(30), 4)
    features = (RANDOM.normal(0, 1, (30, 50))[objects] + 0.1 * RANDOM.normal(0, 1, (120, 50))).astype(np.float16)
    labels = RANDOM.integers(0, 2, 30)[objects]
    alone, together = (label_each_from_the_others(features, labels, 2, g) for g in ((), [str(o) for o in objects]))
    assert (alone == labels).mean() > 0.95 and (together == labels).mean() < 0.75


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
