from __future__ import annotations

import keras
import numpy as np
from random_networks import diverse_images
from tflite_graphs import FP16_TOLERANCE, FP32_TOLERANCE, INT8_TOLERANCE, make_images, run
from tiny import SIZE, Converted
from training_run import keras_scores

from edgecls.config import TrainConfig
from edgecls.export import calibration, tflite
from edgecls.export.fuse import fuse
from edgecls.export.quantization.prepare import prepare
from edgecls.model_file.tflite import read_tflite
from edgecls.networks.model import build_model


def test_fp32_agrees_with_keras_on_raw_images(converted: Converted) -> None:
    images = make_images(converted.pad_gray)
    expected = keras_scores(converted.model, images)
    scores, source, target = run(converted.graphs["fp32.tflite"], images)
    assert (source["dtype"], tuple(source["shape"])) == (np.uint8, (1, SIZE, SIZE, 1))
    assert (target["dtype"], tuple(target["shape"])) == (np.float32, (1, 3))
    # The images must not look the same to the network, or nothing would be compared.
    assert np.ptp(expected, axis=0).min() > 0.3
    assert np.abs(scores - expected).max() < FP32_TOLERANCE


def test_fp16_has_half_the_size_and_the_scores_of_float(converted: Converted) -> None:
    images = make_images(converted.pad_gray)
    graph = tflite.to_fp16(fuse(converted.model))
    scores, source, target = run(graph, images)
    assert (source["dtype"], target["dtype"]) == (np.uint8, np.float32)
    off = np.abs(scores - keras_scores(converted.model, images)).max()
    assert FP32_TOLERANCE < off < FP16_TOLERANCE
    # What is not weights, a tenth of so small a network, does not shrink.
    assert len(graph) < 0.6 * len(converted.graphs["fp32.tflite"])
    # "fp16accfp16" would let some boards compute in 16 bits, unlike the machine that scored the file.
    assert b"fp16accfp32" in graph


def test_int8_takes_the_raw_pixel_as_its_quantized_input(converted: Converted) -> None:
    images = make_images(converted.pad_gray)
    scores, source, target = run(converted.graphs["int8.tflite"], images)
    assert (source["dtype"], tuple(source["shape"])) == (np.uint8, (1, SIZE, SIZE, 1))
    assert source["quantization"] == (1.0, converted.pad_gray)
    assert (target["dtype"], tuple(target["shape"])) == (np.float32, (1, 3))
    assert np.abs(scores.sum(1) - 1).max() < 1e-5
    assert np.abs(scores - keras_scores(converted.model, images)).mean() < INT8_TOLERANCE


def test_int8_computes_on_integers_up_to_the_average_pooling(converted: Converted) -> None:
    nodes = read_tflite(converted.graphs["int8.tflite"]).nodes
    # The other head reads the flattened feature map.
    is_pooled = isinstance(converted.model.get_layer("features"), keras.layers.GlobalAveragePooling2D)
    end = ["DEQUANTIZE", *(["MEAN"] if is_pooled else []), "FULLY_CONNECTED", "SOFTMAX"]
    assert [node.op for node in nodes[-len(end) :]] == end
    kinds = {tensor.dtype for node in nodes[: -len(end)] for tensor in (*node.inputs, *node.outputs)}
    assert kinds == {"uint8", "int8", "int32"}


def test_the_int8_bound_notices_a_wrong_input_scale(converted: Converted) -> None:
    images = make_images(converted.pad_gray)
    halved = converted.pad_gray + (images.astype(np.float32) - converted.pad_gray) / 2
    wrong = keras_scores(converted.model, halved.astype(np.uint8))
    assert np.abs(wrong - keras_scores(converted.model, images)).mean() > 1.5 * INT8_TOLERANCE


def test_a_network_with_a_dead_layer_answers_as_in_keras() -> None:
    model = build_model(TrainConfig(arch="cnn", image_size=SIZE, filters=(4,), hidden=(8,)), 3, None)
    layer = model.get_layer("hidden_1")
    kernel, bias = layer.get_weights()
    # No image makes any of its units positive.
    layer.set_weights([kernel, bias - 1000])
    images = diverse_images(8, SIZE, np.random.default_rng(3))
    fused = fuse(model)
    scores, _, _ = run(tflite.to_int8(prepare(fused, images), images), images)
    np.testing.assert_allclose(scores, keras_scores(model, images), atol=FP32_TOLERANCE)


def test_black_and_white_are_put_into_the_calibration_and_not_into_the_callers_images() -> None:
    images = np.full((3, 4, 4, 1), 77, np.uint8)
    stretched = calibration.with_full_range(images)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (stretched != images).sum() == 2
    assert (images == 77).all()
