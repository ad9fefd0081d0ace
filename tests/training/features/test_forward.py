"""The frozen network in each engine, and which is chosen."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import ExportError
from edgecls.networks.model import FEATURES_LAYER, build_mobilenet_v2
from edgecls.networks.split_layer import split_at
from edgecls.networks.weights import Weights
from edgecls.parallel.ray import RayPool
from edgecls.training.features import forward as forward_module
from edgecls.training.features.forward import BATCH_SIZE, WORTH_CONVERTING, Forward, Run, fastest_forward, run_all

SIZE = 32


def random_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 1), dtype=np.uint8)


def quarters(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean of each quarter of each image: float32 (N, 2, 2, 1)."""
    half = SIZE // 2
    return np.asarray(images.reshape(-1, 2, half, 2, half, 1).mean(axis=(2, 4)), np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8")
    x = keras.layers.AveragePooling2D(SIZE // 2)(keras.layers.Rescaling(1.0)(image))
    # In training mode this would drop half of them.
    return keras.Model(image, keras.layers.Dropout(0.5)(x))


@pytest.fixture(scope="module")
def extractor() -> keras.Model:
    """The feature extractor of MobileNetV2."""
    config = TrainConfig(image_size=SIZE, alpha=0.35)
    return split_at(build_mobilenet_v2(config, 3, Weights("none", None, None, "keras")), FEATURES_LAYER)[0]


@pytest.fixture(scope="module")
def in_openvino(extractor: keras.Model) -> Run:
    """The same in OpenVINO; converting takes seconds."""
    pytest.importorskip("openvino")
    return forward_module._openvino_forward(forward_module._to_openvino(extractor))


# Padding of the last batch


@pytest.mark.parametrize("count", [1, BATCH_SIZE - 1, BATCH_SIZE])
def test_a_part_of_a_batch_gives_its_own_rows_alone(model: keras.Model, count: int) -> None:
    images = random_images(count)
    outputs = fastest_forward(model, images, count)(images)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, quarters(images), rtol=1e-6)


def test_every_call_sees_a_whole_batch() -> None:
    shapes = []

    def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        shapes.append((batch.shape, batch.dtype))
        return quarters(batch)

    forward = Forward("fake", "", run)
    for count in (1, 5, BATCH_SIZE):
        assert len(forward(random_images(count))) == count
    assert set(shapes) == {((BATCH_SIZE, SIZE, SIZE, 1), np.dtype(np.uint8))}


def test_a_row_does_not_depend_on_how_many_others_came_along(extractor: keras.Model) -> None:
    images = random_images(BATCH_SIZE)
    forward = fastest_forward(extractor, images, 1)
    together = forward(images)
    for count in (1, 7):
        np.testing.assert_array_equal(forward(images[:count]), together[:count])


@pytest.mark.parametrize("count", [1, BATCH_SIZE, BATCH_SIZE + 1, 3 * BATCH_SIZE + 5])
def test_all_images_are_run_in_order_and_progress_reaches_the_total(count: int) -> None:
    calls: list[tuple[int, int]] = []
    images = random_images(count)
    outputs = run_all(Forward("fake", "", quarters), images, lambda *call: calls.append(call))
    np.testing.assert_array_equal(outputs, quarters(images))
    assert [done for done, _ in calls] == [*range(BATCH_SIZE, count, BATCH_SIZE), count]
    assert {total for _, total in calls} == {count}


# OpenVINO


def test_openvino_agrees_with_keras(extractor: keras.Model, in_openvino: Run) -> None:
    images = random_images(BATCH_SIZE)
    expected = forward_module._keras_forward(extractor)(images)
    found = in_openvino(images)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < forward_module.MOST_DIFFERENCE / 10 * np.abs(expected).max()


def test_a_result_is_not_overwritten_by_the_next(in_openvino: Run) -> None:
    first = in_openvino(random_images(BATCH_SIZE))
    kept = first.copy()
    in_openvino(random_images(BATCH_SIZE) // 2)
    np.testing.assert_array_equal(first, kept)


# The choice


def choose(model: keras.Model, images: int = WORTH_CONVERTING) -> Forward:
    chosen = fastest_forward(model, random_images(5), images)
    np.testing.assert_allclose(chosen(random_images(3)), quarters(random_images(3)), rtol=1e-5)
    return chosen


def pretend(
    monkeypatch: pytest.MonkeyPatch, seconds: float, change: Callable[[NDArray[Any]], NDArray[Any]] = lambda x: x
) -> None:
    """Let OpenVINO take so long where Keras takes 1 s, and return what Keras returns, changed."""
    times = iter([1.0, seconds])
    monkeypatch.setattr(forward_module, "_to_openvino", lambda model: None)
    monkeypatch.setattr(forward_module, "_openvino_forward", lambda network: lambda batch: change(quarters(batch)))
    monkeypatch.setattr(forward_module, "_time", lambda run, batch: (run(batch), next(times)))


def test_few_images_are_not_worth_converting_for(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0.1)
    chosen = choose(model, WORTH_CONVERTING - 1)
    assert chosen.engine == "keras" and "too few" in chosen.why


def test_the_faster_engine_is_taken_if_it_agrees(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0.4, lambda outputs: outputs * np.float32(1 + 1e-6))
    chosen = choose(model)
    assert chosen.engine == "openvino" and "took 0.40 of Keras' time" in chosen.why


def test_a_slower_engine_is_not_taken(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.2)
    chosen = choose(model)
    assert chosen.engine == "keras" and "took 1.20 of Keras' time" in chosen.why


@pytest.mark.parametrize("change", [lambda x: x * np.float32(1.01), lambda x: x * np.float32(np.nan)])
def test_an_engine_that_disagrees_is_not_taken_however_fast(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    pretend(monkeypatch, 0.1, change)
    chosen = choose(model)
    assert chosen.engine == "keras" and "outputs differ by" in chosen.why


def test_without_openvino_keras_runs(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "find_spec", lambda name: None)
    chosen = choose(model)
    assert (chosen.engine, chosen.why) == ("keras", "OpenVINO is not installed")


def test_a_network_that_openvino_cannot_run_runs_in_keras(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: keras.Model) -> None:
        raise ExportError("converting the frozen network to OpenVINO failed: no such operation")

    pretend(monkeypatch, 0.1)
    monkeypatch.setattr(forward_module, "_to_openvino", refuse)
    chosen = choose(model)
    assert chosen.engine == "keras" and "no such operation" in chosen.why


def test_a_gpu_is_left_to_tensorflow(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0.1)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    chosen = choose(model)
    assert (chosen.engine, chosen.why) == ("keras", "TensorFlow has a GPU")


def test_the_choice_is_made_by_measurement(
    extractor: keras.Model, in_openvino: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_module, "_openvino_forward", lambda network: in_openvino)
    chosen = fastest_forward(extractor, random_images(5), WORTH_CONVERTING)
    assert chosen.engine in ("keras", "openvino") and "of Keras' time, outputs differ by" in chosen.why
    images = random_images(9)
    expected = extractor(images, training=False).numpy()
    np.testing.assert_allclose(chosen(images), expected, atol=1e-4 * np.abs(expected).max())


# For another process


@pytest.mark.parametrize("engine", [pytest.param("keras", marks=pytest.mark.slow), "openvino"])
def test_another_process_gets_the_same_network_to_the_last_bit(
    engine: str, extractor: keras.Model, monkeypatch: pytest.MonkeyPatch, ray_pool_2: RayPool
) -> None:
    pytest.importorskip("openvino")
    times = iter([1.0, 0.5] if engine == "openvino" else [0.5, 1.0])
    monkeypatch.setattr(forward_module, "_time", lambda run, batch: (run(batch), next(times)))
    forward = fastest_forward(extractor, random_images(5), WORTH_CONVERTING)
    assert forward.engine == engine
    images = random_images(BATCH_SIZE)
    again = pickle.loads(pickle.dumps(forward))
    assert (again.engine, again.why) == (forward.engine, forward.why)
    np.testing.assert_array_equal(again(images), forward(images))
    for _, outputs in ray_pool_2.map(forward_module.Forward.__call__, again, [images, images[:7]]):
        np.testing.assert_array_equal(outputs, forward(images)[: len(outputs)])
