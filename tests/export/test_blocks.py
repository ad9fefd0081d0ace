"""Networks with fewer blocks (`--blocks`): their files score as Keras does, in both runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from random_networks import diverse_images, random_network
from tflite_graphs import FP32_TOLERANCE, INT8_TOLERANCE, run
from training_run import keras_scores

from edgecls.boards.edgetpu import preflight
from edgecls.boards.rule_result import reasons_against
from edgecls.boards.targets import TARGETS
from edgecls.export import onnx, tflite
from edgecls.export.fuse import fuse
from edgecls.export.quantization.prepare import prepare
from edgecls.model_file.read import read_graph

SIZE = 32
IMAGES = diverse_images(24, SIZE, np.random.default_rng(3))


def run_onnx(graph: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph)
    return np.concatenate([session.run(None, {onnx.INPUT: image[None]})[0] for image in IMAGES])


@pytest.fixture(scope="module", params=[1, 10])
def model(request: pytest.FixtureRequest) -> Any:
    return random_network("torch", SIZE, 0.35, "gap", learned=False, blocks=request.param)


def test_float_files_score_as_keras(model: Any) -> None:
    expected, fused = keras_scores(model, IMAGES), fuse(model)
    # The images must not look the same to the network, or nothing would be compared.
    assert np.ptp(expected, axis=0).min() > 0.3
    assert np.abs(run(tflite.to_fp32(fused), IMAGES)[0] - expected).max() < FP32_TOLERANCE
    assert np.abs(run_onnx(onnx.to_fp32(fused)) - expected).max() < FP32_TOLERANCE


def test_int8_files_score_nearly_so_after_pruning_and_equalization(model: Any) -> None:
    expected = keras_scores(model, IMAGES)
    calibration = diverse_images(48, SIZE, np.random.default_rng(1))
    prepared = prepare(fuse(model, in_blocks=True), calibration)
    assert np.abs(run(tflite.to_int8(prepared, calibration), IMAGES)[0] - expected).mean() < INT8_TOLERANCE
    assert np.abs(run_onnx(onnx.to_int8(prepared, calibration)) - expected).mean() < INT8_TOLERANCE


def test_files_for_a_coral_hold_only_what_it_maps(model: Any) -> None:
    calibration = diverse_images(16, SIZE, np.random.default_rng(1))
    graph = tflite.to_int8(fuse(model), calibration, TARGETS["coral"])
    assert not reasons_against(preflight(read_graph(graph, "tflite")))
    assert np.abs(run(graph, IMAGES)[0] / 256 - keras_scores(model, IMAGES)).mean() < INT8_TOLERANCE
