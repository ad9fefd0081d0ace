"""The linear classifier against its definition, on features that are small enough to check by hand."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.errors import MissingDependency
from edgecls.training import linear
from edgecls.training.linear import L2_STRENGTHS, cross_entropy, fit_linear, folds, softmax, squared_error

CLASSES = 3
Features = NDArray[np.float16]


def draw(count: int, seed: int = 0, noise: float = 1.0) -> tuple[Features, NDArray[np.int64]]:
    """Return features of very different scale, one of them constant, and labels that most of them say."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centers = np.random.default_rng(99).normal(0, 1, (CLASSES, 8))
    features = centers[labels] + random.normal(0, noise, (count, 8))
    scale = np.array([1, 100, 0.01, 1, 1, 5, 1, 1])
    return np.column_stack([features * scale + 3 * scale, np.full(count, 7)]).astype(np.float16), labels


def scale(features: Features, least: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation by which features are standardized."""
    raw = features.astype(np.float64)
    mean, deviation = raw.mean(0), raw.std(0)
    # The constant one is the last.
    deviation[:-1] = np.maximum(deviation[:-1], least * np.median(deviation[:-1]))
    deviation[-1] = 1
    return mean, deviation


def penalized_loss(copies: list[Features], labels: NDArray[np.int64], l2: float, solution: Any, least: float) -> float:
    """Return what is minimized, written as in a textbook."""
    features = [copy.astype(np.float64) for copy in copies]
    mean, deviation = scale(copies[0], least)
    loss = 0.0
    for number, copy in enumerate(features):
        weight = 1.0 if len(copies) == 1 else 0.5 if not number else 0.5 / (len(copies) - 1)
        scores = softmax((copy - mean) / deviation @ solution[:-1] + solution[-1])
        loss += weight * len(labels) * cross_entropy(scores, labels)
    return loss + l2 / 2 * float((solution[:-1] ** 2).sum())


@pytest.mark.parametrize(("copy_count", "least"), [(1, 0.0), (3, 0.0), (3, 1.0)])
def test_no_small_change_of_the_solution_is_better(copy_count: int, least: float) -> None:
    features, labels = draw(60)
    copies = [features, *(draw(60, seed)[0] for seed in range(1, copy_count))]
    found = fit_linear(copies, labels, CLASSES, l2=3.0, least_deviation=least)
    mean, deviation = scale(features, least)
    solution = np.vstack([found.kernel * deviation[:, np.newaxis], found.bias + mean @ found.kernel])
    best = penalized_loss(copies, labels, 3.0, solution, least)
    random = np.random.default_rng(0)
    changed = [
        penalized_loss(copies, labels, 3.0, solution + random.normal(0, 0.05, solution.shape), least) for _ in range(30)
    ]
    assert min(changed) > best


def test_the_scaling_is_folded_into_the_weights() -> None:
    features, labels = draw(90)
    found = fit_linear([features], labels, CLASSES, l2=1.0, least_deviation=0.0)
    factor, shift = np.array([1, 2, 4, 1, 0.5, 1, 1, 2, 1], np.float16), np.arange(9, dtype=np.float16)
    scaled = (features * factor + shift).astype(np.float32)
    other = fit_linear([scaled], labels, CLASSES, l2=1.0, least_deviation=0.0)
    np.testing.assert_allclose(found.predict(features), other.predict(features * factor + shift), atol=0.02)
    assert (found.predict(features).argmax(1) == labels).mean() > 0.8
    assert found.kernel.dtype == found.bias.dtype == np.float32 and found.scores is None


def test_a_feature_that_hardly_varies_gets_no_large_weight() -> None:
    features, labels = draw(60)
    # Features that never vary, as many networks have, do not count for the median.
    features = np.column_stack([features, np.zeros((60, 20), np.float16)])
    free = fit_linear([features], labels, CLASSES, l2=3.0, least_deviation=0.0)
    found = fit_linear([features], labels, CLASSES, l2=3.0)
    # The third feature varies a hundred times less than most.
    assert np.abs(found.kernel[2]).max() < np.abs(free.kernel[2]).max() / 10
    # The first varies as most do.
    np.testing.assert_allclose(found.kernel[0], free.kernel[0], rtol=0.5)


def test_twice_the_same() -> None:
    features, labels = draw(80)
    one, two = (fit_linear([features], labels, CLASSES) for _ in range(2))
    np.testing.assert_array_equal(one.kernel, two.kernel)
    np.testing.assert_array_equal(one.bias, two.bias)


def test_noise_asks_for_a_stronger_penalty_than_clear_classes() -> None:
    strengths = [fit_linear([features], labels, CLASSES).l2 for features, labels in (draw(150, noise=6), draw(150))]
    assert strengths[0] > strengths[1] and set(strengths) <= set(L2_STRENGTHS)


def test_the_scores_are_of_classifiers_that_did_not_see_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "L2_STRENGTHS", (0.1,))
    random = np.random.default_rng(0)
    features, labels = random.normal(0, 1, (60, 100)).astype(np.float16), random.integers(0, 2, 60)
    found = fit_linear([features], labels, 2)
    assert found.scores is not None and found.chosen_on is not None
    np.testing.assert_array_equal(found.chosen_on, np.arange(60))
    # There is nothing to learn: who has seen the labels knows them, and nobody else.
    assert (found.predict(features).argmax(1) == labels).mean() > 0.9
    assert (found.scores.argmax(1) == labels).mean() < 0.75


def test_many_images_choose_the_strength_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_CHOSEN_ON", 40)
    features, labels = draw(100)
    found = fit_linear([features], labels, CLASSES)
    assert found.chosen_on is not None and found.scores is not None
    assert len(set(found.chosen_on.tolist())) == 40 == len(found.scores)


def test_features_that_do_not_fit_into_memory_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = draw(100)
    expected = fit_linear([features, features], labels, CLASSES, l2=1.0)
    monkeypatch.setattr(linear, "BLOCK_IMAGES", 16)
    monkeypatch.setattr(linear, "MEMORY_BYTES", 0)
    found = fit_linear([features, features], labels, CLASSES, l2=1.0)
    np.testing.assert_allclose(found.predict(features), expected.predict(features), atol=0.01)


def test_class_weights_move_the_border() -> None:
    features, labels = draw(300, noise=3)
    plain, heavy = (fit_linear([features], labels, CLASSES, l2=1.0, class_weights=w) for w in (None, [1, 1, 20.0]))
    named = [(each.predict(features).argmax(1) == 2).mean() for each in (plain, heavy)]
    assert named[1] > named[0] + 0.2


def test_a_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = draw(60)
    late = fit_linear([features], labels, CLASSES, l2=0.01, deadline=time.monotonic() - 1)
    whole = fit_linear([features], labels, CLASSES, l2=0.01)
    assert np.isfinite(late.kernel).all()
    losses = [cross_entropy(each.predict(features), labels) for each in (late, whole)]
    assert losses[1] < losses[0] < np.log(CLASSES)


def test_a_class_with_one_image_is_no_error() -> None:
    features, labels = draw(30)
    labels = np.where(np.arange(30) == 7, 3, labels)
    assert fit_linear([features], labels, 5).kernel.shape == (9, 5)


def test_folds_spread_each_class() -> None:
    labels = np.array([0] * 20 + [1] * 7 + [2])
    found = folds(labels, 5, 0)
    assert np.bincount(found[:20]).tolist() == [4] * 5 and np.bincount(found[20:27], minlength=5).max() == 2
    assert (folds(labels, 5, 1) != found).any()
    # Classes with one image each do not all go into one fold.
    assert len(set(folds(np.arange(5), 5, 0).tolist())) == 5


def test_errors_of_scores() -> None:
    scores, labels = np.array([[1, 0], [0.5, 0.5]], np.float32), np.array([0, 1])
    assert cross_entropy(scores, labels) == pytest.approx(np.log(2) / 2)
    assert cross_entropy(scores, labels, np.array([3.0, 1.0])) == pytest.approx(np.log(2) / 4)
    assert squared_error(scores, labels) == pytest.approx(0.25)
    assert np.isfinite(cross_entropy(scores, np.array([1, 1])))


def test_without_scipy_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingDependency, match=r"SciPy.*pip install 'edgecls\[train\]', or train with --solver sgd"):
        fit_linear([draw(30)[0]], draw(30)[1], CLASSES)
