"""Refitting adapts a network to images that are resized otherwise, and keeps what is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecls.images.dataset import Dataset, Split
from edgecls.imported.refit import CLASSIFIER, NORMS, refit
from edgecls.progress import silent

SIZE = 12
CLASSES = ("coarse", "fine", "plain")


def make_split(count: int, seed: int, contrast: float) -> Split:
    """Stripes of two widths, and none: uint8 (N, 12, 12, 1)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    column = np.arange(SIZE)
    waves = np.stack([np.sin(column * np.pi / 3), np.sin(column * np.pi / 1.5), np.zeros(SIZE)])[labels]
    images = 128 + contrast * waves[:, None, :, None] + rng.normal(0, 12, (count, SIZE, SIZE, 1))
    return Split(tuple(map(str, range(count))), images.clip(0, 255).astype(np.uint8), labels)


def make_dataset(contrast: float) -> Dataset:
    train, val = make_split(240, 1, contrast), make_split(120, 2, contrast)
    return Dataset(Path(), CLASSES, train, val, None, (), ())


@pytest.fixture(scope="module")
def network() -> Any:
    """Trained on images of full contrast."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3), layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    stack += [layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Activation("softmax")]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1), dtype="uint8"), *stack])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    train = make_split(240, 0, 60)
    model.fit(train.images, train.labels, epochs=20, verbose=0)
    return keras.Model(model.inputs[0], model.outputs[0])


def accuracy(network: Any, split: Split) -> float:
    return float((network.predict(split.images, verbose=0).argmax(1) == split.labels).mean())


def test_images_of_another_contrast_are_learned(network: Any) -> None:
    dataset = make_dataset(contrast=20)
    weights = network.get_weights()
    result = refit(network, dataset, silent)
    assert result.changed
    assert set(result.changed) <= {CLASSIFIER, NORMS}
    assert result.after > result.before + 0.1
    assert accuracy(network, dataset.val) == result.after
    assert accuracy(network, make_split(300, 3, 20)) > result.before + 0.1
    network.set_weights(weights)


def test_nothing_is_changed_without_a_gain(network: Any) -> None:
    dataset = make_dataset(contrast=60)
    weights = [each.copy() for each in network.get_weights()]
    result = refit(network, dataset, silent)
    assert (result.changed, result.before, result.after) == ((), 1.0, 1.0)
    assert all(np.array_equal(new, old) for new, old in zip(network.get_weights(), weights, strict=True))
    assert "unchanged" in result.describe()


def test_statistics_are_those_of_all_batches(network: Any) -> None:
    """The momentum makes the mean over the batches, and is what it was afterwards."""
    import keras

    from edgecls.imported.refit import _measure_norms

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    images = make_split(128, 4, 20).images
    assert _measure_norms(copy, images)
    (norm,) = (layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization))
    inputs = keras.Model(copy.input, norm.input).predict(images, verbose=0)
    assert norm.momentum == 0.9
    np.testing.assert_allclose(norm.moving_mean, inputs.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, inputs.var((0, 1, 2)), rtol=0.05)


@pytest.mark.parametrize(("gain", "threshold"), [(1.0, 0.0), (4.0, 0.5)])
def test_one_logit_is_solved_too(gain: float, threshold: float) -> None:
    import keras

    from edgecls.networks.imported import BOTH_CLASSES

    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 1))
    logit = keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    both = keras.layers.Dense(2, name=BOTH_CLASSES)
    model = keras.Model(image, keras.layers.Softmax()(both(logit)))
    both.set_weights([np.array([[0.0, gain]]), np.array([0.0, -gain * threshold])])
    train, val = (make_split(240, seed, 60) for seed in (1, 2))
    first, second = (Split(part.paths, part.images, (part.labels == 0).astype(np.int64)) for part in (train, val))
    result = refit(model, Dataset(Path(), ("no", "yes"), first, second, None, (), ()), silent)
    assert np.array_equal(both.get_weights()[0], [[0, 1]]) and not both.get_weights()[1].any()
    assert result.changed == (CLASSIFIER,)
    assert result.after > 0.95
