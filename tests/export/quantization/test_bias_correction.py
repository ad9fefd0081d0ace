from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_graphs import run as run_onnx
from processor import skip_without_vnni
from random_networks import core_scores, diverse_images, random_network
from tflite_graphs import run

from edgecls.boards.targets import WEIGHT_STEPS
from edgecls.export import graph, onnx, tflite
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.graph import sources_of, with_weights
from edgecls.export.quantization import bias_correction, equalize, prepare, rounding

SIZE = 48
# Channels of one tensor differ by a hundred times, as they do in trained networks.
UNEVEN = 100.0


@functools.cache
def uneven_network(head: str = "gap") -> FusedModel:
    """The fused network with channels a hundred times apart: scores are those of the even one.

    Linear channels are rescaled where they are made and where they are read; ReLU channels only ever shrink, so that
    no value is newly cut at 6, and lose nothing but their own cut. Made once: no preparation changes its input.
    """
    fused = fuse(random_network("keras", SIZE, 0.35, head))
    core = fused.core
    rng = np.random.default_rng(3)
    weights = {
        layer.name: [w.astype(np.float64) for w in layer.get_weights()] for layer in core.layers if layer.weights
    }
    for group in equalize._groups(core, sources_of(core)):
        width = next(len(weights[layer.name][1]) for layer in group.layers if layer.weights)
        equalize._scale(group, UNEVEN ** -rng.uniform(0, 1, width), weights)
    return FusedModel(with_weights(core, weights), fused.pad_gray)


@pytest.fixture(scope="module")
def uneven() -> FusedModel:
    return uneven_network()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return diverse_images(64, SIZE, np.random.default_rng(4))


def int8_scores(kind: str, fused: FusedModel, calibration: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Scores of the int8 file, in the real runtime."""
    if kind == "onnx":
        return run_onnx(onnx.to_int8(fused, calibration), images)
    return run(tflite.to_int8(fused, calibration), images)[0]


def error(kind: str, fused: FusedModel, reference: FusedModel, images: np.ndarray) -> float:
    """Mean error of the int8 file's scores on images that it was not prepared on."""
    calibration, unseen = images[:32], images[32:]
    return float(np.abs(int8_scores(kind, fused, calibration, unseen) - core_scores(reference, unseen)).mean())


@pytest.mark.parametrize("kind", ["tflite", pytest.param("onnx", marks=pytest.mark.slow)])
def test_int8_loses_several_times_less_with_preparation(kind: str, uneven: FusedModel, images: np.ndarray) -> None:
    if kind == "onnx":
        skip_without_vnni()
    plain = error(kind, uneven, uneven, images)
    prepared = error(kind, prepare.prepare(uneven, images[:32]), uneven, images)
    assert prepared < plain / 3, (plain, prepared)


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def whole(request: pytest.FixtureRequest, images: np.ndarray) -> tuple[str, FusedModel, float]:
    """A kind of file, a network and the error of the file made with all steps."""
    network = uneven_network("flatten")
    return request.param, network, error(request.param, prepare.prepare(network, images[:32]), network, images)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["equalize", "correct_bias"])
def test_a_file_made_without_one_step_loses_more(
    step: str, whole: tuple[str, FusedModel, float], images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, network, with_all = whole
    if kind == "onnx":
        skip_without_vnni()
    monkeypatch.setattr(prepare, step, lambda fused, *_, **__: fused)
    lacking = error(kind, prepare.prepare(network, images[:32]), network, images)
    # Measured: 0.07 with both steps, 0.11 to 0.12 without correcting, 0.25 without equalizing.
    assert with_all < lacking * 0.8, (with_all, lacking)


def rounding_error(fused: FusedModel, reference: FusedModel, images: np.ndarray) -> float:
    """Mean error of the scores that rounded weights alone cause; a converter keeps them as they are."""
    return float(np.abs(core_scores(fused, images) - core_scores(reference, images)).mean())


def keep_unequal(fused: Any, calibration: np.ndarray, **_: Any) -> Any:
    return fused


def only_round(layer: Any, corrected: Any, inputs: graph.Batches, weight_steps: int, _: bool) -> graph.Batches:
    kernel, bias = layer.get_weights()
    corrected.set_weights([rounding.round_to_grid(layer, kernel, weight_steps), bias])
    return [(layer(exact), corrected(rounded)) for exact, rounded in inputs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "step", "without"), [(prepare, "equalize", keep_unequal), (bias_correction, "_fit_layer", only_round)]
)
def test_each_step_reduces_the_error(
    module: Any,
    step: str,
    without: Callable[..., Any],
    uneven: FusedModel,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibration, unseen = images[:32], images[32:]
    whole = rounding_error(prepare.prepare(uneven, calibration), uneven, unseen)
    monkeypatch.setattr(module, step, without)
    lacking = rounding_error(prepare.prepare(uneven, calibration), uneven, unseen)
    assert whole < lacking * 0.8, (whole, lacking)


def test_one_image_in_sixteen_is_perturbed(
    uneven: FusedModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(calibration: np.ndarray, pad_gray: int) -> graph.Batches:
        seen.append(calibration)
        return graph.pair_inputs(calibration, pad_gray)

    monkeypatch.setattr(bias_correction, "pair_inputs", look)
    bias_correction.correct_bias(uneven, images[:32])
    assert sum(not np.array_equal(old, new) for old, new in zip(images, seen[0], strict=False)) == 2


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_equalized_network_gives_the_same_scores(head: str, images: np.ndarray) -> None:
    fused = uneven_network(head)
    # On the images that ranges were measured on, no channel meets the ReLU's ceiling that did not before.
    equalized = equalize.equalize(fused, images[:8])
    assert rounding_error(equalized, fused, images[:8]) < 1e-4


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_preparation_leaves_its_input_alone_and_every_weight_on_the_grid(head: str, images: np.ndarray) -> None:
    fused = uneven_network(head)
    before = [w.copy() for w in fused.core.get_weights()]
    prepared = prepare.prepare(fused, images[:16])
    assert all(np.array_equal(old, new) for old, new in zip(before, fused.core.get_weights(), strict=True))
    for layer in prepared.core.layers[:-1]:
        if layer.weights:
            kernel = layer.get_weights()[0]
            assert (
                np.abs(rounding.round_to_grid(layer, kernel, WEIGHT_STEPS) - kernel).max()
                <= 1e-5 * np.abs(kernel).max()
            )


def test_batches_change_nothing(uneven: FusedModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which positions are drawn depends on the batches.
    monkeypatch.setattr(
        bias_correction,
        "round_weights",
        lambda layer, _, steps, **__: rounding.round_to_grid(layer, layer.get_weights()[0], steps),
    )
    # Processors add the floats of other batches in another order. Quantized activations enlarge such a difference of
    # 1e-7 to a tenth of a weak channel's weights, as it moves a value to the next step. So they are compared alone.
    monkeypatch.setattr(bias_correction, "_quantize", lambda outputs: outputs)
    whole = bias_correction.correct_bias(uneven, images[:16])
    monkeypatch.setattr(graph, "BATCH_PIXELS", 3 * images.shape[1] * images.shape[2])
    in_batches = bias_correction.correct_bias(uneven, images[:16])
    for one, other in zip(whole.core.get_weights(), in_batches.core.get_weights(), strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one)


def test_activations_in_batches_have_one_range() -> None:
    values = np.random.default_rng(5).normal(0, [1.0, 3.0, 0.2], (16, 3)).astype(np.float32)
    ((_, whole),) = bias_correction._quantize([(values, values)])
    in_batches = bias_correction._quantize([(part, part) for part in np.split(values, [3, 9])])
    assert np.array_equal(whole, np.concatenate([rounded for _, rounded in in_batches]))
    assert not np.array_equal(whole, values)


@pytest.mark.slow
def test_one_step_per_layer_needs_its_own_preparation(uneven: FusedModel, images: np.ndarray) -> None:
    # Rounded with one step per layer, the network that was prepared for that loses less than the other one.
    def lost(*, per_tensor: bool) -> float:
        core = prepare.prepare(uneven, images[:32], per_tensor=per_tensor).core
        rounded = {}
        for layer in core.layers[:-1]:
            if layer.weights:
                kernel, bias = layer.get_weights()
                rounded[layer.name] = [rounding.round_to_grid(layer, kernel, WEIGHT_STEPS, per_tensor=True), bias]
        return rounding_error(FusedModel(graph.with_weights(core, rounded), uneven.pad_gray), uneven, images[32:])

    prepared, other = lost(per_tensor=True), lost(per_tensor=False)
    assert prepared < other * 0.7, (prepared, other)


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_network_balanced_for_one_step_per_layer_gives_the_same_scores(head: str, images: np.ndarray) -> None:
    fused = uneven_network(head)
    equalized = equalize.equalize(fused, images[:8], per_tensor=True)
    assert np.abs(core_scores(equalized, images[:8]) - core_scores(fused, images[:8])).max() < 1e-4
