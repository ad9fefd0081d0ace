"""Configurations of Keras 2 and Keras 3 become the same flat layers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from edgecls.errors import ModelFileError
from edgecls.imported.build import Source, build_float
from edgecls.imported.graph import LayerGraph, read_graph

if TYPE_CHECKING:
    import keras


def layer(kind: str, name: str, inbound: list[Any], **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "name": name, "config": {"name": name, **settings}, "inbound_nodes": inbound}


def operation(name: str, function: str, inbound: list[Any]) -> dict[str, Any]:
    return layer("TFOpLambda", name, inbound, function=function)


def functional(layers: list[dict[str, Any]], last: list[Any], shape: Sequence[int | None] = (16, 16, 3)) -> Any:
    image = layer("InputLayer", "image", [], batch_input_shape=[None, *shape])
    settings = {"layers": [image, *layers], "input_layers": [["image", 0, 0]], "output_layers": [last]}
    return {"class_name": "Functional", "config": settings, "name": "model"}


def kinds(graph: LayerGraph) -> list[tuple[str, tuple[str, ...]]]:
    return [(node.kind, node.inputs) for node in graph.nodes]


def test_operations_of_keras_2_become_layers() -> None:
    layers = [
        operation("divided", "math.truediv", [["image", 0, 0, {"y": 127.5, "name": None}]]),
        operation("moved", "math.subtract", [["divided", 0, 0, {"y": 1.0, "name": None}]]),
        operation("flipped", "math.subtract", [["_CONSTANT_VALUE", -1, 3.0, {"y": ["moved", 0, 0]}]]),
        operation("both", "__operators__.add", [["moved", 0, 0, {"y": ["flipped", 0, 0]}]]),
        operation("active", "nn.relu6", [["both", 0, 0, {"name": None}]]),
    ]
    graph = read_graph(functional(layers, ["active", 0, 0]), keras_2=True)
    assert kinds(graph) == [
        ("Rescaling", ("",)),
        ("Rescaling", ("divided",)),
        ("Rescaling", ("moved",)),
        ("Add", ("moved", "flipped")),
        ("ReLU", ("both",)),
    ]
    assert [node.settings for node in graph.nodes[:3]] == [
        {"scale": 1 / 127.5, "offset": 0.0},
        {"scale": 1.0, "offset": -1.0},
        {"scale": -1.0, "offset": 3.0},
    ]
    assert graph.input_shape == (16, 16, 3)


def test_bgr_inside_of_a_model_is_the_gray_image_itself() -> None:
    backwards = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
    layers = [
        layer("SlicingOpLambda", "bgr", [["image", 0, 0, {"slice_spec": backwards}]], function="__operators__.getitem"),
        operation("mean", "nn.bias_add", [["bgr", 0, 0, {"bias": [-103.9, -116.8, -123.7], "data_format": "NHWC"}]]),
    ]
    graph = read_graph(functional(layers, ["mean", 0, 0]), keras_2=True)
    assert kinds(graph) == [("Rescaling", ("",))]
    assert graph.nodes[0].settings == {"scale": 1.0, "offset": [-103.9, -116.8, -123.7]}
    cut = layers + [layer("SlicingOpLambda", "cut", [["mean", 0, 0, {"slice_spec": backwards}]], function="getitem")]
    with pytest.raises(ModelFileError, match="'cut'"):
        read_graph(functional(cut, ["cut", 0, 0]), keras_2=True)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("image.grayscale_to_rgb", {"name": None}), ("repeat", {"repeats": 3, "axis": -1}), ("tile", {"1": [1, 1, 1, 3]})],
)
def test_gray_copied_by_an_operation_becomes_three_channels(function: str, arguments: dict[str, Any]) -> None:
    layers = [
        operation("scaled", "math.multiply", [["image", 0, 0, {"y": 0.5}]]),
        operation("rgb", function, [["scaled", 0, 0, arguments]]),
        layer("Flatten", "flat", [[["rgb", 0, 0, {}]]]),
    ]
    graph = read_graph(functional(layers, ["flat", 0, 0], (16, 16, 1)), keras_2=True)
    assert kinds(graph)[1:] == [("Concatenate", ("scaled", "scaled", "scaled")), ("Flatten", ("rgb",))]
    with pytest.raises(ModelFileError, match="'rgb'"):
        read_graph(functional(layers, ["flat", 0, 0]), keras_2=True)


@pytest.mark.parametrize(("shape", "dropped"), [((None, None, 3), True), ((20, 20, 3), True), ((40, 40, 3), False)])
def test_a_first_resizing_to_a_square_says_the_size_of_images(shape: tuple[int | None, ...], dropped: bool) -> None:
    layers = [
        layer("Rescaling", "scaled", [[["image", 0, 0, {}]]], scale=0.5),
        layer("Resizing", "resized", [[["scaled", 0, 0, {}]]], height=20, width=20, crop_to_aspect_ratio=True),
        layer("Flatten", "flat", [[["resized", 0, 0, {}]]]),
    ]
    graph = read_graph(functional(layers, ["flat", 0, 0], shape), keras_2=True)
    assert ("Resizing", ("scaled",)) not in kinds(graph) if dropped else ("Resizing", ("scaled",)) in kinds(graph)
    assert graph.input_shape == ((20, 20, 3) if dropped else shape)
    assert kinds(graph)[-1] == ("Flatten", ("scaled",) if dropped else ("resized",))


def test_an_output_with_a_name_is_read() -> None:
    config = functional([layer("Flatten", "flat", [[["image", 0, 0, {}]]])], ["flat", 0, 0])
    config["config"] |= {"input_layers": {"photo": ["image", 0, 0]}, "output_layers": {"scores": ["flat", 0, 0]}}
    assert kinds(read_graph(config, keras_2=False)) == [("Flatten", ("",))]


def test_nested_models_of_keras_2_count_their_calls_from_one() -> None:
    inner = functional([layer("Conv2D", "conv", [[["image", 0, 0, {}]]], filters=4, kernel_size=3)], ["conv", 0, 0])
    nested = inner | {"name": "base", "inbound_nodes": [[["image", 0, 0, {"training": False}]]]}
    flat = layer("Flatten", "flat", [[["base", 1, 0, {}]]])
    graph = read_graph(functional([nested, flat], ["flat", 0, 0]), keras_2=True)
    assert kinds(graph) == [("Conv2D", ("",)), ("Flatten", ("conv",))]
    assert graph.nodes[0].path == "layers/functional/layers/conv2d"
    assert graph.nodes[0].scope == ("base", "conv")


def test_hard_sigmoid_of_keras_2_is_another_function() -> None:
    layers = [layer("Activation", "gate", [[["image", 0, 0, {}]]], activation="hard_sigmoid")]
    graph = read_graph(functional(layers, ["gate", 0, 0]), keras_2=True)
    assert [node.settings for node in graph.nodes] == [{"scale": 0.2, "offset": 0.5}, {"max_value": 1.0}]
    graph = read_graph(functional(layers, ["gate", 0, 0]), keras_2=False)
    assert [node.settings for node in graph.nodes] == [{"activation": "hard_sigmoid"}]


def test_training_layers_are_dropped_and_old_settings_ignored() -> None:
    layers = [
        layer("RandomRotation", "turn", [[["image", 0, 0, {}]]], factor=0.2),
        layer("DepthwiseConv2D", "conv", [[["turn", 0, 0, {}]]], kernel_size=3, groups=1, activation="relu"),
        layer("BatchNormalization", "norm", [[["conv", 0, 0, {}]]], axis=[3], epsilon=0.001),
        layer("Dropout", "drop", [[["norm", 0, 0, {}]]], rate=0.5),
    ]
    graph = read_graph(functional(layers, ["drop", 0, 0]), keras_2=True)
    assert [(node.kind, node.settings) for node in graph.nodes] == [
        ("DepthwiseConv2D", {"kernel_size": 3}),
        ("ReLU", {"max_value": None}),
        ("BatchNormalization", {"axis": 3, "epsilon": 0.001}),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"data_format": "channels_first"}, "channels first"), ({"renorm": True}, "renorm"), ({"groups": 2}, "groups=2")],
)
def test_settings_that_change_the_result_are_refused(settings: dict[str, Any], words: str) -> None:
    layers = [layer("BatchNormalization", "norm", [[["image", 0, 0, {}]]], **settings)]
    with pytest.raises(ModelFileError, match=words):
        read_graph(functional(layers, ["norm", 0, 0]), keras_2=True)


def scores_of(*last: dict[str, Any]) -> keras.Model:
    """A model whose nodes "one" and "two" are a softmax and a sigmoid of three outputs, and "logits" neither."""
    layers = [layer("Flatten", "flat", [[["image", 0, 0, {}]]])]
    for name, function in (("one", "softmax"), ("two", "sigmoid"), ("logits", "linear")):
        layers.append(layer("Activation", name, [[["flat", 0, 0, {}]]], activation=function))
    config = functional([*layers, *last], [last[-1]["name"], 0, 0], (1, 1, 3))
    return build_float(Source(read_graph(config, keras_2=True), {}), 1)


@pytest.mark.parametrize(
    ("kind", "inbound", "settings"),
    [("Average", ["one", "two"], {}), ("Concatenate", ["two", "two"], {}), ("Rescaling", ["one"], {"scale": 1})],
)
def test_scores_that_are_averaged_get_no_second_softmax(kind: str, inbound: list[str], settings: Any) -> None:
    network = scores_of(layer(kind, "last", [[[name, 0, 0, {}] for name in inbound]], **settings))
    assert network.layers[-1].name == "last"
    logits = scores_of(layer(kind, "last", [[["logits", 0, 0, {}] for _ in inbound]], **settings))
    assert logits.layers[-1].get_config()["activation"] == "softmax"


def test_normalization_of_training_is_refused() -> None:
    for node in ([["image", 0, 0, {"training": True}]], {"args": [], "kwargs": {"training": True}}):
        layers = [layer("BatchNormalization", "norm", [node])]
        with pytest.raises(ModelFileError, match="'norm' is called with training=True"):
            read_graph(functional(layers, ["norm", 0, 0]), keras_2=True)
    drop = layer("Dropout", "drop", [[["image", 0, 0, {"training": True}]]], rate=0.5)
    read_graph(functional([drop, layer("Flatten", "flat", [[["drop", 0, 0, {}]]])], ["flat", 0, 0]), keras_2=True)


@pytest.mark.parametrize(
    ("kind", "inbound", "settings"),
    [("Multiply", ["one", "two"], {}), ("Rescaling", ["two"], {"scale": -1, "offset": 1}), ("Add", ["one", "one"], {})],
)
def test_what_is_computed_of_scores_is_refused(kind: str, inbound: list[str], settings: Any) -> None:
    last = layer(kind, "last", [[[name, 0, 0, {}] for name in inbound]], **settings)
    with pytest.raises(ModelFileError, match=rf"layer 'last' \({kind}\) computes the result of scores"):
        scores_of(last)


def two_images() -> Any:
    """A model that adds its two images."""
    config = functional([layer("Add", "sum", [[["image", 0, 0, {}], ["second", 0, 0, {}]]])], ["sum", 0, 0])
    config["config"]["layers"].append(layer("InputLayer", "second", [], batch_input_shape=[None, 16, 16, 3]))
    config["config"]["input_layers"].append(["second", 0, 0])
    return config


def test_several_inputs_are_refused_with_what_can_be_built() -> None:
    with pytest.raises(ModelFileError, match=r"it has 2 inputs and is given 1.*model\(\[image\] \* 2\)"):
        read_graph(two_images(), keras_2=True)
    nested = two_images() | {"name": "both", "inbound_nodes": [[["image", 0, 0, {}], ["image", 0, 0, {}]]]}
    assert kinds(read_graph(functional([nested], ["both", 1, 0]), keras_2=True)) == [("Add", ("", ""))]
    nested["inbound_nodes"] = [[["image", 0, 0, {}]]]
    with pytest.raises(ModelFileError, match="the model 'both' has 2 inputs and is given 1"):
        read_graph(functional([nested], ["both", 1, 0]), keras_2=True)


def test_several_outputs_are_refused() -> None:
    config = functional([layer("Flatten", "flat", [[["image", 0, 0, {}]]])], ["flat", 0, 0])
    config["config"]["output_layers"].append(["image", 0, 0])
    with pytest.raises(ModelFileError, match=r"2 outputs.*keras\.Model\(model\.inputs, model\.outputs\[0\]\)"):
        read_graph(config, keras_2=True)


@pytest.mark.parametrize(("kind", "scales"), [("LayerNormalization", True), ("Rescaling", True), ("Flatten", False)])
def test_a_model_that_scales_each_image_takes_pixels(kind: str, scales: bool) -> None:
    all_settings: dict[str, Any] = {"LayerNormalization": {"axis": [1, 2, 3]}, "Rescaling": {"scale": 0.5}}
    settings = all_settings.get(kind, {})
    layers = [layer(kind, "first", [[["image", 0, 0, {}]]], **settings)]
    assert Source(read_graph(functional(layers, ["first", 0, 0]), keras_2=True), {}).scales_itself is scales


def test_more_layers_in_a_row_than_keras_can_follow_are_refused() -> None:
    layers = [layer("Rescaling", "l0", [[["image", 0, 0, {}]]], scale=1.0)]
    layers += [layer("Rescaling", f"l{i}", [[[f"l{i - 1}", 0, 0, {}]]], scale=1.0) for i in range(1, 300)]
    layers.append(layer("Flatten", "flat", [[["l299", 0, 0, {}]]]))
    source = Source(read_graph(functional(layers, ["flat", 0, 0], (2, 2, 1)), keras_2=True), {})
    # Modules that are imported on the first use need a depth of their own.
    few = [layer("Rescaling", "l0", [[["image", 0, 0, {}]]], scale=1.0)]
    few.append(layer("Flatten", "flat", [[["l0", 0, 0, {}]]]))
    build_float(Source(read_graph(functional(few, ["flat", 0, 0], (2, 2, 1)), keras_2=True), {}), 2)
    depth, limit = len(inspect.stack()), sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 250)
    try:
        with pytest.raises(ModelFileError, match="more layers in a row"):
            build_float(source, 2)
    finally:
        sys.setrecursionlimit(limit)
