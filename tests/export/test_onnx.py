from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from processor import skip_without_vnni
from tflite_graphs import FP16_TOLERANCE, FP32_TOLERANCE, INT8_TOLERANCE, make_images
from tiny import SIZE, Converted
from training_run import keras_scores

from edgecls.errors import ExportError
from edgecls.export import calibration
from edgecls.export import onnx as onnx_export
from edgecls.export.fuse import FusedModel, fuse

PRECISIONS = ("fp32", "int8")
CONVOLUTIONS = 52  # MobileNetV2: stem, 17 blocks (the first without expansion), last


def run(graph: bytes, images: np.ndarray) -> np.ndarray:
    """Scores float32 (N, C) in the real runtime."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.type, source.shape) == ("tensor(uint8)", [1, SIZE, SIZE, 1])
    assert (target.type, target.shape) == ("tensor(float)", [1, 3])
    return np.concatenate([session.run(None, {source.name: image[None]})[0] for image in images])


def front_of(graph: Any, node: Any) -> list[Any]:
    """The nodes that the first input of `node` is made by, the nearest first."""
    producers = {output: maker for maker in graph.node for output in maker.output}
    found = []
    while (maker := producers.get(node.input[0])) is not None:
        found.append(maker)
        node = maker
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_agree_with_keras_on_raw_images(converted: Converted, precision: str) -> None:
    if precision == "int8":
        skip_without_vnni()
    images = make_images(converted.pad_gray)
    off = np.abs(run(converted.graphs[f"{precision}.onnx"], images) - keras_scores(converted.model, images))
    assert off.max() < FP32_TOLERANCE if precision == "fp32" else off.mean() < INT8_TOLERANCE


def test_fp16_has_half_the_size_and_the_scores_of_float(converted: Converted) -> None:
    images = make_images(converted.pad_gray)
    data = onnx_export.to_fp16(fuse(converted.model))
    off = np.abs(run(data, images) - keras_scores(converted.model, images)).max()
    assert FP32_TOLERANCE < off < FP16_TOLERANCE
    assert len(data) < 0.6 * len(converted.graphs["fp32.onnx"])
    graph = onnx.load_from_string(data).graph
    casts = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    for tensor in graph.initializer:
        is_half = tensor.data_type == onnx.TensorProto.FLOAT16
        assert is_half == (tensor.name in casts)
        assert is_half or len(tensor.dims) < 2
    assert len(casts) >= CONVOLUTIONS + 1


def test_int8_scores_are_not_rounded_to_steps(converted: Converted) -> None:
    nodes = onnx.load_from_string(converted.graphs["int8.onnx"]).graph.node
    assert nodes[-1].op_type == "Softmax"
    scores = run(converted.graphs["int8.onnx"], make_images(converted.pad_gray))
    assert np.abs(scores.sum(1) - 1).max() < 1e-5
    assert np.abs(scores * 256 - np.round(scores * 256)).max() > 0.1


def test_int8_averages_the_last_feature_map_in_float(converted: Converted) -> None:
    graph = onnx.load_from_string(converted.graphs["int8.onnx"]).graph
    kinds = [node.op_type for node in front_of(graph, graph.node[-1])]
    # The other head reads the flattened feature map.
    if isinstance(converted.model.get_layer("features"), keras.layers.GlobalAveragePooling2D):
        assert kinds[:4] == ["Gemm", "Squeeze", "GlobalAveragePool", "DequantizeLinear"]
    else:
        assert kinds[:2] == ["Gemm", "DequantizeLinear"]


def test_the_raw_image_is_the_quantized_input_of_the_first_convolution(converted: Converted) -> None:
    graph = onnx.load_from_string(converted.graphs["int8.onnx"]).graph
    stem = next(node for node in graph.node if node.op_type == "Conv")
    front = front_of(graph, stem)
    assert front[-1].input[0] == graph.input[0].name
    # Those that only move pixels, and those that say what a pixel means: nothing computes.
    meaning = {"DequantizeLinear", "QuantizeLinear"}
    assert {node.op_type for node in front} <= {*meaning, "Reshape", "Transpose", "SpaceToDepth"}
    assert front[0].op_type == "DequantizeLinear"
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in front:
        if node.op_type in meaning:
            scale, zero_point = (constants[name] for name in node.input[1:])
            assert (float(scale), int(zero_point), zero_point.dtype) == (1.0, converted.pad_gray, np.uint8)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pixels_are_put_into_blocks_as_floats(converted: Converted, precision: str) -> None:
    """onnxruntime before 1.28 refuses a file that does it with bytes, and Python 3.10 has none so new."""
    graph = onnx.load_from_string(converted.graphs[f"{precision}.onnx"]).graph
    producers = {node.output[0]: node for node in graph.node}
    blocks = [node for node in graph.node if node.op_type == "SpaceToDepth"]
    # A float file has them only if gray_to_rgb learned.
    assert len(blocks) == 1 or (precision == "fp32" and converted.pad_gray == 128)
    assert all(producers[node.input[0]].op_type == "DequantizeLinear" for node in blocks)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_convolutions_alone_are_left_of_the_backbone(converted: Converted, precision: str) -> None:
    graph = onnx.load_from_string(converted.graphs[f"{precision}.onnx"]).graph
    operations = [node.op_type for node in graph.node]
    assert not {"Pad", "BatchNormalization", "Dropout"} & set(operations)
    assert operations.count("Conv") == CONVOLUTIONS
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


def test_int8_kernels_have_a_scale_for_each_channel(converted: Converted) -> None:
    graph = onnx.load_from_string(converted.graphs["int8.onnx"]).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    weights = [producers[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert len(weights) == CONVOLUTIONS
    for dequantize in weights:
        kernel, scale = (constants[name] for name in dequantize.input[:2])
        assert kernel.dtype == np.int8
        assert scale.shape == (len(kernel),)


def test_an_input_scale_other_than_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = keras.Input((8, 8, 1), batch_size=1, name="centered_image")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    fused = FusedModel(keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), 128)
    dull = np.random.default_rng(0).integers(100, 150, (8, 8, 8, 1)).astype(np.uint8)
    assert onnx_export.to_int8(fused, dull)
    # Without black and white among the images, the quantizer picks a finer step than one gray value.
    monkeypatch.setattr(calibration, "with_full_range", lambda images: images)
    with pytest.raises(ExportError, match="input's quantization is .* expected 1"):
        onnx_export.to_int8(fused, dull)
