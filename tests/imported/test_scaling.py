"""The scaling and the class order are found by measurement, or refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgecls.errors import ConfigError, DataError
from edgecls.imported.assignment import assign
from edgecls.imported.class_order import check_count, check_order, parse_classes
from edgecls.imported.measure import _Scores
from edgecls.imported.scaling import (
    Scaling,
    choose_scaling,
    find_unusual,
    parse_scaling,
    try_scalings,
    usual_scalings,
)

CLASSES = ("bolt", "nut", "screw")
Predict = Callable[[np.ndarray, Scaling], np.ndarray]


def images_and_labels(count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Grays about 60, 120 and 180: a class each."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    grays = 60 + 60 * labels[:, None, None, None] + rng.normal(0, 20, (count, 1, 1, 1)) + np.zeros((1, 4, 4, 1))
    return grays.clip(0, 255).astype(np.uint8), labels


def model(trained_on: Scaling, order: tuple[int, ...] = (0, 1, 2)) -> Predict:
    """Tells the grays apart in the channels that it was trained on."""

    def predict(images: np.ndarray, scaling: Scaling) -> np.ndarray:
        channels = len(scaling.scale)
        seen = scaling.apply(images, channels).mean((1, 2))
        grays = np.array([60, 120, 180], np.uint8)[:, None, None, None]
        centers = trained_on.apply(grays, channels)[:, 0, 0]
        width = 20 * np.array(trained_on.scale)
        # Not symmetric, or RGB and BGR would be alike on gray images.
        logits = -((((seen[:, None] - centers) / width) ** 2)[:, :, 0])
        scores = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray((scores / scores.sum(1, keepdims=True))[:, list(order)], np.float32)

    return predict


@pytest.mark.parametrize("channels", [1, 3])
def test_every_usual_scaling_is_found(channels: int) -> None:
    images, labels = images_and_labels()
    for wanted in usual_scalings(channels):
        trials = try_scalings(usual_scalings(channels), images, labels, model(wanted))
        assert choose_scaling(trials, scales_itself=False) == wanted
        assert trials[0].accuracy > 0.9


def test_a_model_that_does_not_mind_is_refused_with_the_accuracies() -> None:
    images, labels = images_and_labels()

    def indifferent(images: np.ndarray, _: Scaling) -> np.ndarray:
        return model(usual_scalings(1)[1])(images, usual_scalings(1)[1])

    trials = try_scalings(usual_scalings(1), images, labels, indifferent)
    with pytest.raises(DataError, match=r"0\.\.255 9\d\.\d %, .*--scaling"):
        choose_scaling(trials, scales_itself=False)
    # A model that scales inside takes pixels.
    assert choose_scaling(trials, scales_itself=True).name == "0..255"


def test_too_large_a_scale_does_not_win_by_being_surer() -> None:
    """A network without biases labels alike whatever the scale; only its scores show which is right."""
    images, labels = images_and_labels()
    logits = np.eye(3)[labels] * 2 + np.random.default_rng(1).normal(0, 1.2, (len(labels), 3))

    def predict(batch: np.ndarray, scaling: Scaling) -> np.ndarray:
        scaled = logits[: len(batch)] * scaling.scale[0] * 255
        scores = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    trials = try_scalings(usual_scalings(1)[:2], images, labels, predict)
    assert choose_scaling(trials, scales_itself=False).name == "0..1"


@pytest.mark.parametrize(
    ("trained_on", "what", "channels"),
    # In three channels, ImageNet's scaling is too near to the standardization of these images.
    [("0.02,-2.4", "standardized", 1), ("-0.003922,1", "inverted", 1), ("-0.003922,1", "inverted", 3)],
)
def test_standardized_and_inverted_images_are_refused_with_their_numbers(
    trained_on: str, what: str, channels: int
) -> None:
    images, labels = images_and_labels(512)
    predict, usual = model(parse_scaling(trained_on, channels)), usual_scalings(channels)
    best = try_scalings(usual, images, labels, predict)[0].scaling
    problem = find_unusual(images, labels, best, predict)
    assert f"probably {what}" in problem
    found = parse_scaling(problem.partition("or --scaling ")[2], channels)
    assert (predict(images, found).argmax(1) == labels).mean() > 0.85
    # Those of usual scalings are not.
    for each in usual:
        assert not find_unusual(images, labels, each, model(each))


@pytest.mark.parametrize(
    ("what", "feature", "centers"),
    [
        ("standardized by its own mean and deviation", np.max, (3, 1.5, 1)),
        ("divided by its own largest value", np.min, (0.2, 0.5, 0.8)),
        ("stretched from its own smallest to its largest value", np.mean, (0.1, 0.3, 0.5)),
    ],
)
def test_images_that_were_scaled_one_by_one_are_refused(
    what: str, feature: Callable[..., np.ndarray], centers: tuple[float, ...]
) -> None:
    """Each image has two grays, whose ratio and frequency are those of its class, and a brightness of its own."""
    rng, labels = np.random.default_rng(0), np.arange(512) % 3
    bright = np.arange(100)[None] < np.array([10, 30, 50])[labels][:, None]
    high = rng.uniform(60, 250, len(labels))[:, None]
    low = high * np.array([0.2, 0.5, 0.8])[labels][:, None]
    images = np.where(bright, high, low).round().astype(np.uint8).reshape(-1, 10, 10, 1)

    def predict(batch: np.ndarray, scaling: Scaling) -> np.ndarray:
        seen = feature(scaling.apply(batch, len(scaling.scale)), axis=(1, 2, 3))
        scores = np.exp(-np.minimum(np.abs(seen[:, None] - np.array(centers)) / 0.1, 80))
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    for channels in (1, 3):
        best = try_scalings(usual_scalings(channels), images, labels, predict)[0].scaling
        problem = find_unusual(images, labels, best, predict)
        assert problem.startswith(f"each of the notebook's images was probably {what}: so "), problem


def test_a_scaling_of_each_image_that_only_makes_the_model_surer_is_none() -> None:
    """Almost all images have a white pixel, so division by the largest value is hardly another scaling."""
    images, labels = images_and_labels(512)
    images[:, 0, 0] = 252

    def predict(batch: np.ndarray, scaling: Scaling) -> np.ndarray:
        gray = scaling.apply(batch, 1)[:, 1:].mean((1, 2, 3))
        scores = np.exp(-3 * np.abs(gray[:, None] - np.array([60, 120, 180]) / 255))
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    assert not find_unusual(images, labels, usual_scalings(1)[1], predict)


def test_a_model_that_has_learned_nothing_tells_nothing_of_the_scaling() -> None:
    """It gives all images the most frequent class, and is less wrong about the others with inverted images."""
    images = images_and_labels(512)[0]
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [440, 72]))

    def predict(batch: np.ndarray, scaling: Scaling) -> np.ndarray:
        first = np.full(len(batch), 0.86 if scaling.name == "-0.003922,1" else 0.6) + np.arange(len(batch)) % 2 / 100
        return np.stack([first, 1 - first], 1).astype(np.float32)

    assert not find_unusual(images, labels, usual_scalings(1)[1], predict)


def test_each_image_is_scored_once_with_a_scaling() -> None:
    images, labels = images_and_labels()
    scored: list[tuple[str, int]] = []

    def compute(batch: np.ndarray, scaling: Scaling) -> np.ndarray:
        scored.append((scaling.name, len(batch)))
        return model(usual_scalings(1)[1])(batch, scaling)

    predict = _Scores(compute)
    best = try_scalings(usual_scalings(1), images, labels, predict)[0].scaling
    assert not find_unusual(images[:512], labels[:512], best, predict)
    assert np.array_equal(predict(images[:512], best), model(best)(images[:512], best))
    assert sum(count for name, count in scored if name == best.name) == 512


def test_scalings_are_parsed() -> None:
    assert parse_scaling("0.5,-1e-1", 3) == Scaling("0.5,-1e-1", (0.5,) * 3, (-0.1,) * 3)
    assert parse_scaling("mean-bgr", 3).offset == (-103.939, -116.779, -123.68)
    for text in ("0..2", "0,1", "1", "nan,1", "1,inf", "mean-bgr"):
        with pytest.raises(ConfigError, match="scaling must be"):
            parse_scaling(text, 1)


def test_the_class_order_is_confirmed_or_shown() -> None:
    images, labels = images_and_labels()
    scaling = usual_scalings(1)[0]
    assert check_order(model(scaling)(images, scaling), labels, CLASSES, None).classes == CLASSES
    scores = model(scaling, (2, 0, 1))(images, scaling)
    with pytest.raises(DataError, match="another order.*--classes screw,bolt,nut"):
        check_order(scores, labels, CLASSES, None)
    order = check_order(scores, labels, CLASSES, ("screw", "bolt", "nut"))
    assert order.classes == ("screw", "bolt", "nut")
    assert order.accuracy > 0.9
    assert not order.doubt
    with pytest.raises(DataError, match="another order"):
        check_order(scores, labels, CLASSES, ("bolt", "nut", "screw"))


def test_two_exchanged_classes_of_a_few_images_are_doubted() -> None:
    folders, labels = tuple("abcdefghij"), np.repeat(np.arange(10), 4)
    exchanged = np.eye(10, dtype=np.float32)[np.array([0, 1, 2, 4, 3, 5, 6, 7, 8, 9])[labels]]
    found = check_order(exchanged, labels, folders, None)
    assert found.text == "alphabetical order assumed: 80.0 % of 40 training images correct"
    assert "the outputs may be in another order" in found.doubt
    assert "as a,b,c,e,d,f,g,h,i,j 100.0 %" in found.doubt and "give --classes a,b,c,e,d,f,g,h,i,j" in found.doubt
    assert not check_order(exchanged, labels, folders, tuple("abcedfghij")).doubt


def test_a_model_of_other_classes_is_refused() -> None:
    _, labels = images_and_labels()
    scores = np.random.default_rng(1).dirichlet((1, 1, 1), len(labels)).astype(np.float32)
    with pytest.raises(DataError, match=r"other classes.* for inverted ones such as --scaling -0\.00392,1"):
        check_order(scores, labels, CLASSES, None)
    assert parse_scaling("-0.00392,1", 1).offset == (1.0,)
    assert "do not confirm" in check_order(scores, labels, CLASSES, CLASSES).doubt
    one_class = np.tile(np.array([0.8, 0.1, 0.1], np.float32), (len(labels), 1))
    with pytest.raises(DataError, match="other classes"):
        check_order(one_class, labels, CLASSES, None)
    with pytest.raises(DataError, match="5 classes apart.*3 class folders"):
        check_count(5, CLASSES)


def test_always_answering_the_most_frequent_class_confirms_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [350, 100, 50])
    always = np.tile(np.array([0.8, 0.15, 0.05], np.float32), (len(labels), 1))
    with pytest.raises(
        DataError, match=r"only 70.0 % of 500 training images correctly, and 70.0 % would be correct by"
    ):
        check_order(always, labels, CLASSES, None)
    # One that tells classes apart is accepted, even if it is correct less often than that.
    fair = 0.5 * np.eye(3)[labels] + rng.dirichlet((1, 1, 1), len(labels))
    found = check_order((fair / fair.sum(1, keepdims=True)).astype(np.float32), labels, CLASSES, None)
    assert found.classes == CLASSES and 0.6 < found.accuracy
    shifted = np.where(rng.random(500) < 0.4, labels, rng.integers(0, 3, 500))
    weak = check_order(np.eye(3, dtype=np.float32)[shifted] * 0.8 + 0.1, labels, CLASSES, None)
    assert weak.accuracy < 0.7 and not weak.doubt


def test_classes_must_be_the_folders() -> None:
    assert parse_classes("screw, bolt,nut", CLASSES) == ("screw", "bolt", "nut")
    for text in ("bolt,nut", "bolt,nut,screw,screw", "bolt,nut,saw"):
        with pytest.raises(ConfigError, match="every class folder once"):
            parse_classes(text, CLASSES)


def test_the_assignment_favors_no_class_for_its_many_images() -> None:
    outputs = np.eye(3)[[1, 1, 1, 2, 2, 0]]
    assert assign(outputs, np.array([0, 0, 1, 1, 1, 2])).tolist() == [1, 2, 0]
