from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import SIZE, Converted, build_network, make_spec

from edgecls.errors import MissingDependency, ModelFileError
from edgecls.images import matplotlib_figure
from edgecls.model_file.graph import Graph, Node, Tensor
from edgecls.model_file.read import read_model_file
from edgecls.model_file.tflite import read_tflite
from edgecls.model_file.write import attach_spec
from edgecls.profiling import plot
from edgecls.profiling.layers import find_layers
from edgecls.profiling.litert import cut_operators
from edgecls.profiling.openvino import match_in_order
from edgecls.profiling.ort import read_events
from edgecls.profiling.plot import blocks_of, draw_profile
from edgecls.profiling.profile import OperatorTime, OperatorTimes, profile_file, profile_table
from edgecls.profiling.timed import WARM_UP_RUNS, Timed, interquartile_mean

HEAVY_SIDE = 48
MID_GRAY = 128
# int8 kernels that LiteRT fuses may round differently from those it does not; float sums in another order.
INT8_STEPS, FLOAT_TOLERANCE = 1, 1e-5


def operator(name: str, ms: float, share: float, layers: tuple[str, ...] = (), kind: str = "Conv") -> OperatorTime:
    return OperatorTime(name, kind, layers, ms, share)


PROFILE = OperatorTimes(
    file="model.onnx",
    engine="onnxruntime",
    engine_version="1.2.3",
    threads=2,
    method="a stopwatch",
    invoke_ms=1.25,
    sum_ms=1.0,
    operators=(
        operator("input", 0.1, 0.1, kind="Reshape"),
        operator("block_1_expand + block_1_relu", 0.2, 0.2, ("block_1_expand", "block_1_relu")),
        operator("Reorder_7", 0.1, 0.1, kind="Reorder"),
        operator("block_1_$x$", 0.6, 0.6, ("block_1_$x$",)),
    ),
)


def run_cuts(graph: bytes, image: np.ndarray) -> np.ndarray:
    """Return the graph's output, each cut fed with what the others made."""
    values = {read_tflite(graph).inputs[0].name: image}
    for cut in cut_operators(graph):
        interpreter: Any = Interpreter(model_content=cut.graph)
        interpreter.allocate_tensors()
        for source in interpreter.get_input_details():
            interpreter.set_tensor(source["index"], values[source["name"]])
        interpreter.invoke()
        (target,) = interpreter.get_output_details()
        values[target["name"]] = interpreter.get_tensor(target["index"])
    return values[read_tflite(graph).outputs[0].name]


def run_whole(graph: bytes, image: np.ndarray) -> np.ndarray:
    interpreter: Any = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize(("name", "tolerance"), [("int8.tflite", INT8_STEPS), ("fp32.tflite", FLOAT_TOLERANCE)])
def test_cuts_compute_together_what_the_network_does(name: str, tolerance: float, converted: Converted) -> None:
    graph = converted.graphs[name]
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 1), np.uint8)
    image = image.astype(read_tflite(graph).inputs[0].dtype)
    cut, whole = (run(graph, image).astype(np.float64) for run in (run_cuts, run_whole))
    assert np.abs(cut - whole).max() <= tolerance
    assert len(np.unique(whole)) > 1


def test_cuts_of_a_half_precision_network_hold_the_weights_they_need() -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(build_network("float32"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    graph = bytes(converter.convert())
    nodes = read_tflite(graph).nodes
    cuts = cut_operators(graph)
    # Weights become float when the file is loaded.
    assert sum(node.op == "DEQUANTIZE" for node in nodes) == len(nodes) - len(cuts) > 0
    image = np.random.default_rng(1).random(read_tflite(graph).inputs[0].shape).astype(np.float32) * 255
    np.testing.assert_allclose(run_cuts(graph, image), run_whole(graph, image), atol=FLOAT_TOLERANCE)


def test_a_pad_is_cut_out_with_the_operator_that_reads_it(converted: Converted) -> None:
    graph = converted.graphs["int8.tflite"]
    nodes = read_tflite(graph).nodes
    groups = [cut.operators for cut in cut_operators(graph)]
    assert [place for group in groups for place in group] == list(range(len(nodes)))
    pads = [group for group in groups if len(group) > 1]
    assert [[nodes[place].op for place in group] for group in pads] == [["PAD", "DEPTHWISE_CONV_2D"]] * len(pads)
    # Keras' padding is a convolution's own, PyTorch's is not.
    assert len(pads) == sum(node.op == "PAD" for node in nodes) == (0 if converted.pad_gray == MID_GRAY else 4)


def test_a_damaged_graph_is_an_error(int8: Path) -> None:
    _, graph, _ = read_model_file(int8.read_bytes())
    with pytest.raises(ModelFileError, match="damaged"):
        cut_operators(graph[:200])


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("model-int8.tflite", "litert"),
        ("model-fp32.tflite", "litert"),
        ("model-int8.onnx", "onnxruntime"),
        ("model-fp32.onnx", "onnxruntime"),
        ("model-int8.tflite", "openvino"),
        ("model-int8.onnx", "openvino"),
    ],
)
def test_every_layer_of_the_network_is_in_one_operator(
    name: str, engine: str, file_named: Callable[[str], Path]
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    found = profile_file(file_named(name), engine, threads=1, seconds=0.1)
    assert (found.file, found.engine, found.threads) == (name, engine, 1)
    layers = [layer for each in found.operators for layer in each.layers]
    blocks = [f"block_{number}" for number in range(1, 17)]
    expected = {f"{block}_{part}" for block in blocks for part in ("expand", "expand_relu", "depthwise", "project")}
    assert {"Conv1", "expanded_conv_depthwise", "out_relu", "block_2_add", "features", "scores", *expected} <= {*layers}
    # Others than convolutions bring their outputs into another order.
    convolved = [layer for each in found.operators if "CONV" in each.type.upper() for layer in each.layers]
    assert all(convolved.count(layer) == 1 for layer in expected)
    expand = next(each for each in found.operators if "block_3_expand" in each.layers)
    assert expand.layers == ("block_3_expand", "block_3_expand_relu")
    assert sum(each.share for each in found.operators) == pytest.approx(1)
    assert sum(each.mean_ms for each in found.operators) == pytest.approx(found.sum_ms)
    assert all(each.mean_ms >= 0 for each in found.operators) and found.invoke_ms > 0


@pytest.fixture(scope="session")
def heavy_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network that spends nearly all of its time in its second layer."""
    import keras
    import tensorflow as tf
    import tf2onnx

    layers = keras.layers
    image = keras.Input((HEAVY_SIDE, HEAVY_SIDE, 1), batch_size=1, dtype="uint8", name="image")
    x = layers.Conv2D(16, 1, activation="relu", name="light")(layers.Rescaling(1 / 255, name="scale")(image))
    x = layers.Conv2D(48, 7, activation="relu", name="heavy")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    network = keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x))
    signature = [tf.TensorSpec((1, HEAVY_SIDE, HEAVY_SIDE, 1), tf.uint8, name="image")]
    model, _ = tf2onnx.convert.from_keras(network, signature, opset=17)
    graphs: dict[Any, bytes] = {
        "tflite": bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()),
        "onnx": bytes(model.SerializeToString()),
    }
    folder, files = tmp_path_factory.mktemp("heavy"), {}
    for kind, graph in graphs.items():
        files[kind] = folder / f"heavy.{kind}"
        files[kind].write_bytes(attach_spec(graph, make_spec(height=HEAVY_SIDE, width=HEAVY_SIDE), kind))
    return files


@pytest.mark.parametrize(
    ("kind", "engine"), [("tflite", "litert"), ("onnx", "onnxruntime"), ("onnx", "openvino"), ("tflite", "openvino")]
)
def test_the_slow_layer_is_found(
    kind: str, engine: str, heavy_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if engine == "openvino":
        pytest.importorskip("openvino")
    found = profile_file(heavy_files[kind], engine, threads=1, seconds=0.5)
    slowest = max(found.operators, key=lambda each: each.mean_ms)
    assert "heavy" in slowest.layers and slowest.share > 0.5, found.operators
    # ONNX Runtime writes its profile into the current folder unless told otherwise.
    assert list(tmp_path.iterdir()) == []


def tensor(name: str, constant: bool = False) -> Tensor:
    return Tensor(name, (1,), "float32", constant)


def conv(name: str, layer: str, source: str) -> Node:
    """A convolution as tf2onnx writes depthwise ones: its bias alone has the layer's name."""
    weights = (tensor("const_9", True), tensor(f"net_1/{layer}_1/Squeeze:0", True))
    return Node("Conv", 0, name, (tensor(source), *weights), (tensor(f"{name}:0"),))


def test_layers_are_found_by_weights_outputs_and_what_is_left_goes_to_the_one_before() -> None:
    relu = Node("Clip", 0, "net_1/relu_1/Relu6", (tensor("Conv__1:0"),), (tensor("net_1/relu_1/Relu6:0"),))
    pad = Node("Pad", 0, "net_1/pad_1/Pad", (tensor("net_1/relu_1/Relu6:0"),), (tensor("net_1/pad_1/Pad:0"),))
    last = conv("Conv__2", "second", "net_1/pad_1/Pad:0")
    graph = Graph("onnx", (conv("Conv__1", "first", "image"), relu, pad, last), (tensor("image"),), last.outputs)
    operators = [
        Timed("reordered", "Reorder", 1.0),
        Timed("x", "Conv", 1.0, ("Conv__1",)),
        Timed("y", "Conv", 1.0, ("net_1/other_1/Relu:0", "net_1/second_1/Squeeze:0_quantized")),
    ]
    assert find_layers(graph, operators) == [(), ("first", "relu"), ("pad", "second")]
    # A convolution is never fused into another one: its activation is as unknown as itself.
    assert find_layers(graph, [Timed("z", "Conv", 1.0, ("Conv__2",))]) == [("pad", "second")]


def test_layers_that_tflite_fused_come_in_the_order_they_run() -> None:
    name = (
        "f_1/net_1/act_1/Relu6;f_1/net_1/conv_1/BiasAdd;f_1/net_1/conv_1/convolution;f_1/net_1/conv_1/w/ReadVariableOp"
    )
    node = Node("CONV_2D", 1, name.split(";")[0], (tensor("image"),), (tensor(name),))
    graph = Graph("tflite", (node,), (tensor("image"),), node.outputs)
    assert find_layers(graph, [Timed(name, "CONV_2D", 1.0, (name,))]) == [("conv", "act")]
    assert find_layers(graph, [Timed("elsewhere", "CONV_2D", 1.0)]) == [()]


def test_events_become_means_of_named_and_unnamed_nodes() -> None:
    nodes = [
        Node("Reshape", 0, "flat", (tensor("image"),), (tensor("flat"),)),
        Node("Conv", 0, "c1", (tensor("a"), tensor("w_scale", True), tensor("w", True)), (tensor("b"),)),
        Node("Reshape", 0, "flat2", (tensor("b"),), (tensor("flat2"),)),
    ]
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_run", "dur": 999}]
    for run in range(WARM_UP_RUNS + 8):
        late = 1000 if run < WARM_UP_RUNS else 0
        for name, kind, micros in (("Reshape_0", "Reshape", 3), ("c1", "Conv", 50), ("Reshape_2", "Reshape", 7)):
            event = {"cat": "Node", "name": f"{name}_kernel_time", "dur": micros + late, "args": {"op_name": kind}}
            events.append(event)
        events.append({"cat": "Node", "name": "c1_fence_before", "dur": 5, "args": {"op_name": "Conv"}})
    assert read_events(events, nodes) == [
        Timed("flat", "Reshape", 0.003, ("flat",)),
        Timed("c1", "Conv", 0.05, ("w", "b")),
        Timed("flat2", "Reshape", 0.007, ("flat2",)),
    ]


def test_kinds_of_which_there_are_as_many_are_matched_in_order() -> None:
    nodes = [
        Node(op, 1, name, (), (tensor(name),))
        for op, name in (("CONV_2D", "a"), ("CONV_2D", "b"), ("PAD", "p"), ("ADD", "s"))
    ]
    operators = [
        Timed("Convolution_1", "Convolution", 1),
        Timed("x", "Pad", 1),
        Timed("Convolution_2", "Convolution", 2),
    ]
    operators += [Timed("y", "Eltwise", 1), Timed("z", "Eltwise", 1)]
    matched = match_in_order(operators, nodes)
    assert [each.name for each in matched] == ["a", "p", "b", "y", "z"]
    assert [each.ms for each in matched] == [1, 1, 2, 1, 1]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40))
def test_interquartile_mean_lies_within_and_ignores_the_largest(values: list[float]) -> None:
    found = interquartile_mean(values)
    assert min(values) * (1 - 1e-9) <= found <= max(values) * (1 + 1e-9)
    if len(values) >= 4:
        disturbed = [*values]
        disturbed[disturbed.index(max(values))] = 1e9
        assert interquartile_mean(disturbed) == pytest.approx(found)


def test_the_table_begins_with_the_slowest_and_names_the_method() -> None:
    lines = profile_table(PROFILE, most=2).splitlines()
    assert lines[1].split() == ["0.6000", "60.0", "%", "60.0", "%", "Conv", "block_1_$x$"]
    assert lines[2].split()[:6] == ["0.2000", "20.0", "%", "80.0", "%", "Conv"]
    assert lines[3] == "and 2 faster ones, 20.0 % together"
    assert lines[-1].startswith(
        "model.onnx in onnxruntime 1.2.3, 2 threads: 4 operators, sum 1.000 ms, the whole network 1"
    )
    assert lines[-1].endswith("Times: a stopwatch.")
    assert "faster" not in profile_table(PROFILE)


def test_what_the_engine_added_counts_to_the_block_before() -> None:
    assert blocks_of(PROFILE.operators) == ["input", "block_1", "block_1", "block_1"]


def test_the_picture_is_wider_where_time_goes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.png"
    draw_profile(PROFILE, path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.width == plot.WIDTH * plot.DPI
    areas = [int((pixels == tuple(bytes.fromhex(color[1:]))).all(1).sum()) for color in plot.COLORS[:3]]
    # Convolutions take 80 % of the time, the other two types 10 % each.
    assert areas[0] > 4 * areas[1] > 0 and areas[1] == pytest.approx(areas[2], rel=0.3)


def test_operators_of_many_types_and_one_alone_can_be_drawn(tmp_path: Path) -> None:
    many = tuple(operator(f"o{place}", 0.05, 0.05, kind=f"Type{place}") for place in range(20))
    for operators in (many, many[:1]):
        path = tmp_path / f"{len(operators)}.png"
        draw_profile(replace(PROFILE, operators=operators, sum_ms=0.05 * len(operators)), path)
        assert path.stat().st_size > 1000


def test_without_matplotlib_the_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_figure, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install matplotlib"):
        draw_profile(PROFILE, tmp_path / "profile.png")
