"""A classifier's view of many images: it learns from a part of them, and leaks count in full."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgecls.audit import judge
from edgecls.audit.material import TEST, TRAIN


@dataclass
class Dataset:
    classes: tuple[str, ...] = ("no", "yes")


@dataclass
class Fake:
    """Features that say nothing of the classes, so that only a copy can be known."""

    labels: np.ndarray
    parts: np.ndarray
    features: np.ndarray
    dataset: Dataset = field(default_factory=Dataset)

    def take(self, chosen: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self.features[chosen]
        return taken


def make(train: int, test: int, copies: int) -> tuple[Fake, np.ndarray]:
    """The first `copies` training images are copies of test images."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, train + test)
    features = random.normal(0, 1, (train + test, 400)).astype(np.float32)
    pairs = [(number, train + number, 1.0, 1.0) for number in range(copies)]
    for one, other, *_ in pairs:
        features[one], labels[one] = features[other], labels[other]
    parts = np.repeat([TRAIN, TEST], [train, test])
    return Fake(labels, parts, features), np.array(pairs, np.float64).reshape(-1, 4)


@pytest.mark.parametrize("most", [100, 100_000])
def test_the_leak_is_measured_whole_however_many_images_are_learned_from(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "MOST_LEARNED", most)
    material, pairs = make(train=300, test=100, copies=60)
    found = judge.measure_leak(material, pairs, l2=0.3)  # type: ignore[arg-type]
    assert (found.copies, found.near_duplicates, found.images) == (60, 60, 100)
    assert found.without_copies is not None
    # Sixty of the hundred are known by heart; nobody can know the others.
    assert found.with_leak > 0.7 and found.without_copies < 0.65


def test_without_a_leak_both_are_the_same() -> None:
    material, pairs = make(train=100, test=50, copies=0)
    found = judge.measure_leak(material, pairs, l2=1.0)  # type: ignore[arg-type]
    assert found.with_leak == found.without_copies == found.without_near_duplicates and not found.copies


def test_only_leaks_leave_nothing_to_learn_from() -> None:
    material, pairs = make(train=40, test=40, copies=40)
    assert judge.measure_leak(material, pairs, l2=1.0).without_copies is None  # type: ignore[arg-type]


def test_neighbors_say_what_an_image_is_and_its_copies_do_not_count() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    features = random.normal(0, 0.2, (100, 20)).astype(np.float32)
    features[:, 0] += 2 * labels
    # The last image is a copy of the one before, with the wrong label, as that one has.
    features[99], labels[98:] = features[98], 1
    material = Fake(labels, np.zeros(100, np.int64), features)
    scores = judge.score_by_neighbors(material, [*range(99), 98])  # type: ignore[arg-type]
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert (scores[:98].argmax(1) == labels[:98]).all()
    assert (scores[98:, 0] > 0.9).all()


def test_the_lowest_score_of_the_label_comes_first_and_small_classes_are_not_blamed() -> None:
    # Images of the second class, which is small, have low scores anyway.
    scores = np.array([[0.9, 0.1]] * 8 + [[0.45, 0.55], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7], [0.05, 0.95]], np.float32)
    labels = np.array([0] * 8 + [1, 1, 1, 0, 0])
    found = judge.find_wrong_labels(scores, labels)
    assert [(index, likely) for index, likely, _ in found] == [(12, 1), (11, 1)]
    assert found[0][2] == pytest.approx(0.9)
