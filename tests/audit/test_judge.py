"""A classifier's view of many images: it learns from a part of them, and leaks count in full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgecls.audit import judge
from edgecls.audit.material import TEST, TRAIN


@dataclass
class Fake:
    """Features that say nothing of the classes, so that only a copy can be known."""

    labels: np.ndarray
    parts: np.ndarray
    features: np.ndarray

    def take(self, chosen: np.ndarray) -> np.ndarray:
        return self.features[chosen]


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
