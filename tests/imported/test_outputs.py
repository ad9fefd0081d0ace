"""What a loss made of the outputs is read from the file; labels are right, and scores that are none are said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecls.errors import DataError
from edgecls.imported.build import build_float, read_source
from edgecls.imported.graph import read_graph
from edgecls.imported.model_file import open_model
from edgecls.imported.outputs import (
    LOGITS,
    MARGINS,
    PROBABILITIES,
    VALUES,
    Loss,
    describe_outputs,
    ends_linearly,
    judge_values,
    limit_scores,
    read_loss,
)
from edgecls.imported.scaling import Predict, Scaling, try_scalings, usual_scalings


def save(path: Path, loss: Any, units: int = 1, activation: str | None = None) -> Any:
    import keras

    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(units, activation)])
    if loss is not None:
        model.compile("sgd", loss)
    model.save(path)
    return model


def read(path: Path) -> Any:
    with open_model(path) as file:
        return read_source(file, read_graph(file.config, keras_2=file.keras_2))


def losses() -> list[tuple[Any, Loss]]:
    import keras

    made = keras.losses
    return [
        (None, Loss()),
        ("mse", Loss("mse", VALUES)),
        (["mean_squared_error"], Loss("mean_squared_error", VALUES)),
        (made.Huber(), Loss("Huber", VALUES)),
        (made.mean_absolute_error, Loss("mean_absolute_error", VALUES)),
        ("binary_crossentropy", Loss("binary_crossentropy", PROBABILITIES)),
        (made.BinaryCrossentropy(from_logits=True), Loss("BinaryCrossentropy", LOGITS)),
        (made.BinaryCrossentropy(label_smoothing=0.2), Loss("BinaryCrossentropy", PROBABILITIES, 0.2)),
        ("squared_hinge", Loss("squared_hinge", MARGINS)),
        (made.Dice(), Loss("Dice")),
    ]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_loss_is_read_from_the_file(suffix: str, tmp_path: Path) -> None:
    for loss, expected in losses():
        save(tmp_path / f"model{suffix}", loss)
        assert read(tmp_path / f"model{suffix}").loss == expected


def test_any_configuration_is_read() -> None:
    for loss in (None, 3, [], ["mse", "mse"], {}, {"a": "mse", "b": "mse"}, {"class_name": "function", "config": {}}):
        assert read_loss({"loss": loss}) == Loss()
    assert read_loss({"loss": {"class_name": 3}}) == Loss()
    assert read_loss({"loss": {"last": "mse"}}) == Loss("mse", VALUES)


@pytest.mark.parametrize(
    ("loss", "threshold"), [("mse", 0.5), ("binary_crossentropy", 0.5), ("hinge", 0.0), (None, 0.0)]
)
def test_one_output_has_the_threshold_of_its_loss(loss: str | None, threshold: float, tmp_path: Path) -> None:
    model = save(tmp_path / "model.keras", loss)
    model.set_weights([np.array([[1.0], [0], [0], [0]]), np.zeros(1)])
    model.save(tmp_path / "model.keras")
    images = np.zeros((5, 2, 2, 1), np.float32)
    images[:, 0, 0, 0] = threshold + np.array([-1, -0.01, 0.01, 0.5, 2])
    scores = build_float(read(tmp_path / "model.keras"), 2).predict(images, verbose=0)
    assert scores.argmax(1).tolist() == [0, 0, 1, 1, 1]
    assert np.allclose(scores.sum(1), 1) and (np.diff(scores[:, 1]) > 0).all()


@pytest.mark.parametrize(("activation", "low"), [("sigmoid", 0), ("tanh", -1)])
def test_an_activation_of_one_output_gives_the_score(activation: str, low: int, tmp_path: Path) -> None:
    model = save(tmp_path / "model.keras", "mse", activation=activation)
    images = np.random.default_rng(0).normal(0, 1, (5, 2, 2, 1)).astype(np.float32)
    source = read(tmp_path / "model.keras")
    scores = build_float(source, 2).predict(images, verbose=0)
    assert np.allclose(scores[:, 1:], (model.predict(images, verbose=0) - low) / (1 - low), atol=1e-6)
    assert not ends_linearly(source.graph)


@pytest.mark.parametrize(
    ("loss", "units", "activation", "words"),
    [
        ("mse", 1, None, "loss mse.* second class where the output is above 0.5; the scores are no probabilities"),
        ("hinge", 1, None, "loss hinge.* above 0; the scores are no probabilities"),
        ("mse", 3, None, "that of the highest output; the scores are no probabilities"),
        ("sparse_categorical_crossentropy", 3, None, "that of the highest output"),
        ("binary_crossentropy", 3, "sigmoid", "3 outputs are sigmoids.* do not add up to 1"),
        ("sparse_categorical_crossentropy", 3, "softmax", "^$"),
        ("mse", 3, "softmax", "^$"),
        ("binary_crossentropy", 1, "sigmoid", "^$"),
        (None, 3, None, "^$"),
    ],
)
def test_scores_that_are_no_probabilities_are_said(
    loss: str | None, units: int, activation: str | None, words: str, tmp_path: Path
) -> None:
    save(tmp_path / "model.keras", loss, units, activation)
    source = read(tmp_path / "model.keras")
    found = describe_outputs(source.graph, units, source.loss)
    assert re.search(words, found), found


CLASSES = 3
SCALINGS = usual_scalings(1)


def predict_of(targets: tuple[float, float], loss: Loss, classes: int) -> tuple[Predict, np.ndarray, np.ndarray]:
    """A model of 0..1 whose outputs are about `targets`, the second for its own class, with images and their labels.

    With other scalings its outputs are scaled too. Two classes have one output.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 200)
    low, high = targets
    outputs = (labels[:, None] if classes == 2 else labels[:, None] == np.arange(classes)) * (high - low) + low
    outputs = outputs + rng.normal(0, 0.2 * (high - low), outputs.shape)

    def predict(images: np.ndarray, scaling: Scaling) -> np.ndarray:
        found = outputs[: len(images)] * (255 * scaling.scale[0])
        if classes == 2:
            gain, threshold = loss.logit
            found = gain * (found - threshold) * np.array([0, 1])
        scores = np.exp(found - found.max(1, keepdims=True))
        return np.asarray(scores / scores.sum(1, keepdims=True), np.float32)

    return predict, np.zeros((200, 2, 2, 1), np.uint8), labels


@pytest.mark.parametrize(
    ("targets", "loss", "classes"),
    [
        ((0, 1), Loss("mse", VALUES), 2),
        ((0, 1), Loss("mse", VALUES), 3),
        ((-1, 1), Loss("mse", VALUES), 3),
        ((0, 1), Loss(), 3),
        ((-1, 1), Loss("hinge", MARGINS), 2),
        ((-4, 4), Loss("BinaryCrossentropy", LOGITS), 2),
        ((-4, 4), Loss(), 2),
        ((-4, 4), Loss(), 3),
    ],
)
def test_the_scaling_is_found_whatever_the_outputs_are(targets: tuple[float, float], loss: Loss, classes: int) -> None:
    predict, images, labels = predict_of(targets, loss, classes)
    judged = judge_values(predict, SCALINGS, images[:64], labels[:64], loss, classes == 2)
    is_near = loss.kind == VALUES or (targets, classes) == ((0, 1), 3)
    assert (judged is not predict) == is_near
    best = try_scalings(SCALINGS, images, labels, judged)[0]
    assert best.accuracy > 0.9
    # Logits with a larger scale are as good or better.
    assert best.scaling.name == "0..1" or not is_near


def test_scores_above_smoothed_targets_are_no_better() -> None:
    scores = np.array([[0.99, 0.005, 0.005], [0.6, 0.3, 0.1]], np.float32)
    found = limit_scores(scores, Loss("CategoricalCrossentropy", PROBABILITIES, 0.3))
    assert np.allclose(found, [[0.8, 0.005, 0.005], [0.6, 0.3, 0.1]])
    assert np.array_equal(limit_scores(scores, Loss()), scores)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("targets", "loss", "words"),
    [
        ((0, 1), Loss(), r'near 0 .*so 0\.5 divides them, and its file, which names no loss,.*compile\(loss="mse"\)'),
        ((0, 1), Loss("mine"), r"so 0\.5 divides them, and its loss mine does not say so"),
        ((-1, 1), Loss("mse", VALUES), r'near -1 .*so 0 divides them, and its loss mse.*compile\(loss="hinge"\)'),
    ],
)
def test_other_targets_than_those_of_the_loss_are_refused(
    targets: tuple[int, int], loss: Loss, words: str, order: int
) -> None:
    predict, images, labels = predict_of(targets, loss, 2)
    with pytest.raises(DataError, match=words):
        judge_values(predict, SCALINGS, images, labels if order == 1 else 1 - labels, loss, is_one=True)
