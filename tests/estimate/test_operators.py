"""Operators counted from settings, against those of really exported files and against published totals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from graphs import onnx, tflite
from random_networks import diverse_images
from tiny import make_spec

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError, ModelFileError
from edgecls.estimate.graph_operators import read_network
from edgecls.estimate.operators import KINDS, Network, count_network, round_channels
from edgecls.estimate.published_networks import published_network
from edgecls.limits import Format
from edgecls.model_file.graph import Graph
from edgecls.model_file.write import attach_spec

CLASSES = 5
# Even, odd and small sides, several widths, both heads, both beginnings; small networks with other kernels and layers.
CONFIGS = {
    "96 at 0.35": TrainConfig(image_size=96, alpha=0.35),
    "65 at 0.5, flatten": TrainConfig(image_size=65, alpha=0.5, head="flatten"),
    "64, random gray_to_rgb": TrainConfig(image_size=64, alpha=0.35, gray_to_rgb="random", weights="none", blocks=3),
    "33 with 7 blocks": TrainConfig(image_size=33, alpha=0.35, blocks=7),
    "64 with 1 block, flatten": TrainConfig(image_size=64, alpha=0.35, head="flatten", blocks=1),
    "cnn": TrainConfig(arch="cnn", image_size=37, filters=(8, 12), kernel=2, hidden=(16,)),
    "mlp": TrainConfig(arch="mlp", image_size=20),
}


def export(config: TrainConfig, kind: Format, precision: str, path: Path) -> Path:
    from edgecls.export import onnx as to_onnx
    from edgecls.export import tflite as to_tflite
    from edgecls.export.fuse import fuse
    from edgecls.networks.model import build_model
    from edgecls.networks.weights import Weights

    fused = fuse(build_model(config, CLASSES, Weights("none", None, None, "keras")), in_blocks=precision == "int8")
    module = to_tflite if kind == "tflite" else to_onnx
    images = diverse_images(8, config.image_size, np.random.default_rng(0))
    data = module.to_fp32(fused) if precision == "fp32" else module.to_int8(fused, images)
    path.write_bytes(attach_spec(data, make_spec(precision=precision, arch=config.arch), kind))
    return path


def amounts(network: Network) -> list[tuple[str, int, int]]:
    return [(operator.kind, operator.multiply_adds, operator.weights) for operator in network.operators]


def counted_amounts(config: TrainConfig, precision: str) -> list[tuple[str, int, int]]:
    counted = amounts(count_network(config, CLASSES))
    if (
        precision == "fp32"
        and config.arch == "mobilenet_v2"
        and config.image_size % 2 == 0
        and config.gray_to_rgb != "random"
    ):
        # 3x3 pixels where int8 files have 2x2 blocks of 2x2.
        kind, multiply_adds, weights = counted[0]
        counted[0] = kind, multiply_adds // 16 * 9, weights // 16 * 9
    return counted


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(("kind", "precision"), [("tflite", "int8"), ("onnx", "fp32")])
def test_settings_give_what_the_exported_file_holds(
    config: TrainConfig, kind: Format, precision: str, tmp_path: Path
) -> None:
    counted = count_network(config, CLASSES)
    found, spec = read_network(export(config, kind, precision, tmp_path / f"model.{kind}"))
    assert amounts(found) == counted_amounts(config, precision)
    assert (found.arch, spec.precision) == (counted.arch, precision)
    # Pads, which only TFLite has, make some inputs larger.
    assert counted.values <= found.values <= 1.1 * counted.values


def test_int8_onnx_and_float_tflite_hold_the_same(tmp_path: Path) -> None:
    # The test above shows all blocks; how the file begins is what differs.
    config = dataclasses.replace(CONFIGS["96 at 0.35"], blocks=4)
    for kind, precision in (("onnx", "int8"), ("tflite", "fp32")):
        found, _ = read_network(export(config, kind, precision, tmp_path / f"model.{kind}"))  # type: ignore[arg-type]
        assert amounts(found) == counted_amounts(config, precision)


@pytest.mark.parametrize(
    ("model", "multiply_adds", "weights"),
    [
        # Multiply-adds of the papers' own tables or of their repositories; weights without biases and BatchNorm.
        ("MobileNetV1 1.0, 224x224", 569e6, 4.21e6),
        ("MobileNetV2 1.0, 224x224", 300.79e6, 3.47e6),
        ("SqueezeNet 1.1, 227x227", 387.75e6, 1.232e6),
        ("ResNet18, 224x224", 1814e6, 11.68e6),
        ("AlexNet, 227x227", 724e6, 60.95e6),
        ("GoogLeNet, 224x224", 1583e6, 6.99e6),
    ],
)
def test_published_networks_have_their_published_totals(model: str, multiply_adds: float, weights: float) -> None:
    network = published_network(model)
    assert network.multiply_adds == pytest.approx(multiply_adds, rel=1e-3)
    assert network.weights == pytest.approx(weights, rel=2e-3)
    assert {operator.kind for operator in network.operators} <= set(KINDS)


def test_keras_has_the_weights_that_are_counted_for_mobilenets() -> None:
    import keras

    for build, model in (
        (keras.applications.MobileNet, "MobileNetV1 1.0, 224x224"),
        (keras.applications.MobileNetV2, "MobileNetV2 1.0, 224x224"),
    ):
        kernels = [w for w in build(weights=None).trainable_weights if "kernel" in w.path]
        assert published_network(model).weights == sum(int(np.prod(w.shape)) for w in kernels)


@pytest.mark.parametrize("alpha", [0.35, 0.75, 1.3, 1.4])
def test_keras_has_the_weights_that_are_counted_for_each_width(alpha: float) -> None:
    import keras

    network = keras.applications.MobileNetV2((96, 96, 3), alpha=alpha, include_top=False, weights=None)
    kernels = sum(int(np.prod(w.shape)) for w in network.trainable_weights if "kernel" in w.path)
    counted = count_network(TrainConfig(image_size=96, alpha=alpha), CLASSES)
    stem, scores = (next(o for o in counted.operators if o.kind == kind) for kind in ("convolution", "dense"))
    # The stem sees blocks of 2x2 gray pixels instead of 3 colors.
    assert counted.weights - scores.weights - stem.weights == kernels - stem.weights // 16 * 27


@pytest.mark.parametrize(("channels", "rounded"), [(32 * 0.35, 16), (16 * 0.35, 8), (24 * 0.5, 16), (33.6, 32), (8, 8)])
def test_channels_are_rounded_as_keras_rounds_them(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2; received 1"):
        count_network(TrainConfig(), 1)


@pytest.mark.parametrize("graph", [tflite(), onnx()], ids=["tflite", "onnx"])
def test_graphs_made_by_hand_can_be_counted(graph: Graph) -> None:
    from edgecls.estimate import graph_operators

    count = graph_operators._tflite if graph.format == "tflite" else graph_operators._onnx
    kinds = [operator.kind for operator in count(graph)]
    assert kinds == (["convolution", "other"] if graph.format == "tflite" else [])


def test_a_file_without_layers_is_refused(ignorant_graph: bytes, tmp_path: Path) -> None:
    path = tmp_path / "none.tflite"
    with pytest.raises(ModelFileError, match="no such model file"):
        read_network(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ModelFileError):
        read_network(path)
