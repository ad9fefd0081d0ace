"""Files for NPUs. None was at hand: LiteRT runs them here, and the published rules of their compilers are checked."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from random_networks import core_scores, diverse_images, random_network
from tflite_graphs import run
from tiny import SIZE

from edgecls.boards.targets import TARGETS
from edgecls.config import TrainConfig
from edgecls.errors import ExportError
from edgecls.export import tflite
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.npu import for_npu
from edgecls.model_file.graph import Graph
from edgecls.model_file.read import read_graph
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights

CORAL = TARGETS["coral"]
# Of Google's own tf2_mobilenet_v2_1.0_224_ptq.tflite, and PAD in its oldest version for int8.
KNOWN = {
    ("QUANTIZE", 1),
    ("PAD", 2),
    ("CONV_2D", 3),
    ("DEPTHWISE_CONV_2D", 3),
    ("ADD", 2),
    ("MEAN", 2),
    ("RESHAPE", 1),
    ("SOFTMAX", 2),
}
# Sums of float32 in another order.
SCORES_TOLERANCE = 1e-5


def small_network(arch: str) -> FusedModel:
    config = TrainConfig(arch=arch, image_size=24, filters=(8, 16), hidden=(16,))
    return fuse(build_model(config, 3, Weights("none", None, None, "keras")))


NETWORKS = {
    "Keras' padding, GAP": lambda: fuse(random_network("keras", 32, 0.35, "gap")),
    "PyTorch's padding, Flatten": lambda: fuse(random_network("torch", 48, 0.35, "flatten")),
    "10 blocks": lambda: fuse(random_network("torch", 32, 0.35, "gap", blocks=10)),
    "odd size": lambda: fuse(random_network("torch", 33, 0.35, "flatten")),
    "cnn": lambda: small_network("cnn"),
    "mlp": lambda: small_network("mlp"),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_same_scores_without_blocks_and_dense_layers(name: str) -> None:
    fused = NETWORKS[name]()
    size = fused.core.input.shape[1]
    images = diverse_images(12, size, np.random.default_rng(3))
    # A wrong border would show.
    images[0, :, -2:], images[1, :2], images[2, -1:], images[3, :, :1] = 255, 0, 255, 0
    mapped = for_npu(fused)
    expected = core_scores(fused, images)
    assert np.ptp(expected, axis=0).min() > 0.01
    assert np.abs(core_scores(mapped, images) - expected).max() < SCORES_TOLERANCE
    kinds = {type(layer).__name__ for layer in mapped.core.layers}
    assert not kinds & {"Dense", "SpaceToDepth"}
    assert [layer.name for layer in fused.core.layers if layer.weights] == [
        layer.name for layer in mapped.core.layers if layer.weights
    ]


@pytest.mark.parametrize(
    "last",
    [
        "sigmoid",
        "softmax layer",
        "softmax of a convolution",
        "sigmoid of a convolution",
        "averaged softmax",
        "ensemble",
    ],
)
def test_scores_are_made_as_the_imported_network_made_them(last: str) -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 1), batch_size=1)
    x = layers.Conv2D(4, 3, activation="relu")(image)
    if last == "averaged softmax":
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, activation="softmax")(x))
    elif last == "ensemble":
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Average()([layers.Dense(3, activation="softmax")(x) for _ in range(2)])
    elif "convolution" in last:
        activation = "softmax" if "softmax" in last else None
        x = layers.Conv2D(3, 6, activation=activation)(x)
        x = layers.Flatten()(x) if activation else layers.Activation("sigmoid")(layers.Flatten()(x))
    else:
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(3, activation="sigmoid")(x) if last == "sigmoid" else layers.Softmax()(layers.Dense(3)(x))
    fused = FusedModel(keras.Model(image, x), 0.0)
    images = diverse_images(8, 8, np.random.default_rng(0)) / 255
    expected = core_scores(fused, images)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert np.abs(core_scores(for_npu(fused), images) - expected).max() < SCORES_TOLERANCE


@pytest.mark.parametrize("shapes", ["2-D", "maximum", "reshaped", "each pixel"])
def test_dense_layers_may_follow_other_shapes(shapes: str) -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 1), batch_size=1)
    if shapes == "2-D":
        x = layers.Flatten()(layers.Reshape((8, 8))(image))
    elif shapes == "maximum":
        x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
    elif shapes == "each pixel":
        x = layers.Dense(4, activation="relu")(layers.Conv2D(36, 3, activation="relu")(image))
        x = layers.GlobalAveragePooling2D()(x)
    else:
        x = layers.Reshape((72, 2))(layers.Conv2D(4, 3, activation="relu")(image))
        x = layers.Reshape((144,))(layers.Flatten()(x))
    x = layers.Dense(5, activation="relu")(x)
    fused = FusedModel(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 0.0)
    images = diverse_images(8, 8, np.random.default_rng(0)) / 32
    expected = core_scores(fused, images)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert np.abs(core_scores(for_npu(fused), images) - expected).max() < SCORES_TOLERANCE


@pytest.fixture(scope="module", params=["gap", "flatten"])
def files(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """The same network for a Coral and for any CPU; with the other head, a few blocks show the same."""
    blocks = None if request.param == "gap" else 4
    fused = fuse(random_network("torch", SIZE, 0.35, request.param, blocks=blocks))
    calibration = diverse_images(32, SIZE, np.random.default_rng(1))
    return {name: tflite.to_int8(fused, calibration, TARGETS[name]) for name in ("coral", "x86-vnni")}


def operations(graph: Graph) -> set[tuple[str, int]]:
    return {(node.op, node.version) for node in graph.nodes}


def test_the_file_holds_nothing_the_compiler_was_not_seen_to_map(files: dict[str, bytes]) -> None:
    graph = read_graph(files["coral"], "tflite")
    assert operations(graph) <= KNOWN
    assert operations(read_graph(files["x86-vnni"], "tflite")) - KNOWN
    assert {tensor.dtype for tensor in graph.tensors} <= {"int8", "uint8", "int32"}
    assert all(min(tensor.shape, default=1) > 0 for tensor in graph.tensors)
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == ["uint8", "uint8"]
    # Ranges change at both ends alone, where the compiler maps it.
    assert [node.op for node in graph.nodes if node.op == "QUANTIZE"] == ["QUANTIZE"] * 2
    assert (graph.nodes[0].op, graph.nodes[-1].op) == ("QUANTIZE", "QUANTIZE")


def test_the_file_scores_as_the_one_for_cpus(files: dict[str, bytes]) -> None:
    images = diverse_images(24, SIZE, np.random.default_rng(5))
    coral, source, target = run(files["coral"], images)
    usual, _, _ = run(files["x86-vnni"], images)
    assert (source["dtype"], source["quantization"]) == (np.uint8, (1.0, 114))
    assert target["dtype"] == np.uint8
    # The same weights on the same grids, but kernels of another shape round here and there differently, and the last
    # layer is of integers too: on a random network, few scores move.
    assert np.ptp(usual, axis=0).min() > 0.2
    off = np.abs(coral / 256 - usual)
    assert np.median(off) < 0.01 and off.mean() < 0.02


def test_a_file_that_would_stay_on_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = fuse(random_network("torch", SIZE, 0.35, "gap", blocks=1))
    monkeypatch.setattr(tflite, "for_npu", lambda fused: fused)
    with pytest.raises(ExportError, match=r"the NPU would not run this file: .*FULLY_CONNECTED.*") as error:
        tflite.to_int8(fused, diverse_images(8, SIZE, np.random.default_rng(1)), CORAL)
    assert "run: edgecls export" not in str(error.value)


def test_an_average_of_scores_is_refused_as_such() -> None:
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 1), batch_size=1)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, activation="relu")(image))
    both = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    fused = FusedModel(keras.Model(image, layers.Average()(both)), 0.0)
    images = diverse_images(8, SIZE, np.random.default_rng(1))
    with pytest.raises(ExportError, match=r"this network averages several; export without --board"):
        tflite.to_int8(fused, images, CORAL)
    assert tflite.to_int8(fused, images)
