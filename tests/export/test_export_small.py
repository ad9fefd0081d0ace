"""Networks besides the frozen MobileNetV2 of one stem: trained for a moment, exported, run in their real runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from processor import skip_without_vnni
from random_networks import core_scores
from tiny import CLASSES, draw

from edgecls.boards.targets import TARGETS
from edgecls.config import TrainConfig
from edgecls.export import onnx as onnx_export
from edgecls.export import tflite
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.gate import compare
from edgecls.export.graph import sources_of, with_weights
from edgecls.export.quantization import equalize
from edgecls.export.quantization.layer_error import measure_layers
from edgecls.export.quantization.prepare import prepare
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights

CONFIGS = {
    "cnn": TrainConfig(arch="cnn", image_size=24, filters=(8, 16), hidden=(16,), batch_norm=True),
    "mlp": TrainConfig(arch="mlp", image_size=17, hidden=(32, 16)),
    # Of blocks with all their kinds of layers, whether they add their input or not; test_tflite.py has all blocks.
    "transfer": TrainConfig(image_size=32, alpha=0.35, blocks=4, gray_to_rgb="random", head="flatten", batch_norm=True),
}
MID_GRAY, BLACK = 128, 0
PAD_GRAY = {"cnn": MID_GRAY, "mlp": MID_GRAY, "transfer": BLACK}
# Float32 rounds at 6e-8; sums in another order leave about a hundred times that.
FP32_TOLERANCE = 1e-5
# int8 scores have steps of 1/256; measured: 0.0013 to 0.0026.
INT8_TOLERANCE = 0.01
EPOCHS = 8


def draw_images(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of three classes, uint8 (N, S, S, 1), and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = np.stack([draw(CLASSES[label], rng, (size, size)) for label in labels])[..., np.newaxis].astype(np.int64)
    return (images + rng.integers(-15, 16, images.shape)).clip(0, 255).astype(np.uint8), labels


@dataclass(frozen=True, eq=False)
class Exported:
    """A trained network, what the export made of it, and images it has not seen."""

    name: str
    model: Any
    fused: FusedModel
    graphs: dict[str, bytes]
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@pytest.fixture(scope="module", params=list(CONFIGS))
def exported(request: pytest.FixtureRequest) -> Exported:
    config = CONFIGS[request.param]
    images, labels = draw_images(96, config.image_size, 0)
    model = build_model(config, len(CLASSES), Weights("none", None, None, "keras"))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, epochs=EPOCHS, batch_size=16, verbose=0)
    fused = fuse(model)
    prepared = prepare(fused, images)
    graphs = {
        "fp32.tflite": tflite.to_fp32(fused),
        "int8.tflite": tflite.to_int8(prepared, images),
        "fp32.onnx": onnx_export.to_fp32(fused),
        "int8.onnx": onnx_export.to_int8(prepared, images),
        "int8-arm64.onnx": onnx_export.to_int8(prepared, images, TARGETS["arm64"]),
    }
    unseen, true = draw_images(60, config.image_size, 1)
    return Exported(request.param, model, fused, graphs, unseen, true, np.asarray(model(unseen, training=False)))


def run_tflite(graph: bytes, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] == np.uint8
    scale, zero_point = target["quantization"]
    rows = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0])
    scores = np.array(rows, np.float32)
    return (scores - zero_point) * scale if scale else scores


def run_onnx(graph: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert source.type == "tensor(uint8)"
    return np.concatenate([session.run(None, {source.name: image[None]})[0] for image in images])


def run(exported: Exported, name: str) -> np.ndarray:
    return (run_tflite if name.endswith("tflite") else run_onnx)(exported.graphs[name], exported.images)


def test_the_network_learned_something_to_lose(exported: Exported) -> None:
    assert (exported.scores.argmax(1) == exported.labels).mean() > 0.9
    assert np.ptp(exported.scores, axis=0).min() > 0.3


@pytest.mark.parametrize("name", ["fp32.tflite", "fp32.onnx"])
def test_float_files_give_the_scores_of_keras(exported: Exported, name: str) -> None:
    assert np.abs(run(exported, name) - exported.scores).max() < FP32_TOLERANCE


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx", "int8-arm64.onnx"])
def test_int8_files_come_close_and_pass_their_gate(exported: Exported, name: str) -> None:
    if name.endswith(".onnx"):
        skip_without_vnni()
    scores = run(exported, name)
    assert np.abs(scores - exported.scores).mean() < INT8_TOLERANCE
    assert compare(scores, exported.scores, exported.labels, CLASSES, 0.01).passed


# What is left of the network


def test_nothing_is_left_that_only_training_needs(exported: Exported) -> None:
    core = exported.fused.core
    gone = (keras.layers.Rescaling, keras.layers.BatchNormalization, keras.layers.Dropout)
    assert not [layer.name for layer in core.layers if isinstance(layer, gone)]
    assert exported.fused.pad_gray == PAD_GRAY[exported.name]
    # Linear throughout, so that equalizing and correcting may take any layer for a matrix.
    for layer in core.layers[:-1]:
        assert not layer.weights or layer.activation is keras.activations.linear
    np.testing.assert_allclose(core_scores(exported.fused, exported.images), exported.scores, atol=FP32_TOLERANCE)


def test_the_raw_image_is_the_quantized_input(exported: Exported) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=exported.graphs["int8.tflite"])
    (source,) = interpreter.get_input_details()
    assert source["quantization"] == (1.0, PAD_GRAY[exported.name])
    graph = onnx.load_from_string(exported.graphs["int8.onnx"]).graph
    (first,) = [node for node in graph.node if "image" in node.input]
    (second,) = [node for node in graph.node if first.output[0] in node.input]
    assert (first.op_type, second.op_type) == ("Reshape", "DequantizeLinear")


@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx"])
def test_onnx_files_hold_no_arithmetic_before_the_first_layer(exported: Exported, name: str) -> None:
    operations = {node.op_type for node in onnx.load_from_string(exported.graphs[name]).graph.node}
    assert not {"Cast", "Sub", "Mul", "Div", "BatchNormalization", "Dropout", "Pad"} & operations


def test_layers_of_an_int8_file_can_be_held_against_the_float_ones(exported: Exported) -> None:
    images = exported.images[:4]
    rows = measure_layers(equalize.equalize(exported.fused, images), exported.graphs["int8.tflite"], images)
    names = {row.layer for row in rows}
    expected = {
        "cnn": {"conv_1_relu", "conv_2_relu", "hidden_1_relu"},
        "mlp": {"hidden_1_relu", "hidden_2_relu"},
        "transfer": {"gray_to_rgb", "Conv1_relu", "hidden_1_relu"},
    }
    assert expected[exported.name] <= names


# Equalizing without a ceiling


@pytest.fixture(scope="module", params=["cnn", "mlp"])
def uneven(request: pytest.FixtureRequest) -> tuple[FusedModel, np.ndarray]:
    """A network whose channels differ by up to thirty times, and images for it."""
    config = CONFIGS[request.param]
    core = fuse(build_model(config, len(CLASSES), None)).core
    rng = np.random.default_rng(2)
    weights = {layer.name: layer.get_weights() for layer in core.layers if layer.weights}
    groups = equalize._groups(core, sources_of(core))
    assert len(groups) == len(weights) - 1
    for group in groups:
        width = next(len(weights[layer.name][1]) for layer in group.layers if layer.weights)
        equalize._scale(group, 30 ** -rng.uniform(0, 1, width), weights)
    images, _ = draw_images(60, config.image_size, 3)
    return FusedModel(with_weights(core, weights), MID_GRAY), images


def widths(fused: FusedModel, layer: str, images: np.ndarray) -> np.ndarray:
    """The largest value of each channel."""
    probe = keras.Model(fused.core.input, fused.core.get_layer(layer).output)
    values = np.concatenate([probe(image[None].astype(np.float32) - fused.pad_gray) for image in images])
    return np.asarray(values.reshape(-1, values.shape[-1]).max(0))


def test_equalizing_keeps_the_scores_of_images_it_never_saw(uneven: tuple[FusedModel, np.ndarray]) -> None:
    fused, images = uneven
    equalized = equalize.equalize(fused, images[:30])
    # A ReLU without a ceiling cuts nothing, whatever its input is multiplied by.
    np.testing.assert_allclose(core_scores(equalized, images), core_scores(fused, images), atol=FP32_TOLERANCE)


def test_equalizing_makes_channels_alike(uneven: tuple[FusedModel, np.ndarray]) -> None:
    fused, images = uneven
    equalized = equalize.equalize(fused, images[:30])
    relus = [layer.name for layer in fused.core.layers if isinstance(layer, keras.layers.ReLU)]
    assert relus
    for name in relus:
        before, after = (widths(network, name, images[:30]) for network in (fused, equalized))
        alive = before > 0
        assert np.log(after[alive]).std() < 0.7 * np.log(before[alive]).std(), name


def test_preparation_helps(uneven: tuple[FusedModel, np.ndarray]) -> None:
    fused, images = uneven
    exact = core_scores(fused, images[30:])
    prepared = prepare(fused, images[:30])
    plain, better = (
        np.abs(run_tflite(tflite.to_int8(network, images[:30]), images[30:]) - exact).mean()
        for network in (fused, prepared)
    )
    assert better < plain
