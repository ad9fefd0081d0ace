"""Graphs that interpreters would run although they read other files, never end, or are not what the metadata say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import HEIGHT, LABELS, WIDTH, make_spec

from edgecls.boards.compatibility import check_file
from edgecls.boards.profiles import load_profile
from edgecls.errors import ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load

Change = Callable[[Any], None]
ENGINES = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
BLACK = np.zeros((1, HEIGHT, WIDTH, 1), np.uint8)


def move_out(tensor: Any, path: str) -> None:
    """Keep the values of a TensorProto in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path


def initializer_outside(model: Any) -> None:
    move_out(max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data)), "weights.bin")


def attribute_outside(model: Any) -> None:
    from onnx import helper, numpy_helper

    node = helper.make_node("Constant", [], ["loose"], value=numpy_helper.from_array(np.zeros(9, np.float32)))
    move_out(node.attribute[0].t, "weights.bin")
    model.graph.node.append(node)


def sparse_outside(model: Any) -> None:
    move_out(model.graph.sparse_initializer.add().values, "weights.bin")


def endless(model: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    def described(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, [])

    again = helper.make_node("Identity", ["go"], ["went"])
    parts = [described("turn", TensorProto.INT64), described("go", TensorProto.BOOL)]
    body = helper.make_graph([again], "body", parts, [described("went", TensorProto.BOOL)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "turns"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "start"))
    model.graph.node.append(helper.make_node("Loop", ["turns", "start"], [], body=body))


def function(model: Any) -> None:
    model.functions.add().name = "f"


@ENGINES
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (initializer_outside, "another file"),
        (attribute_outside, "another file"),
        (sparse_outside, "another file"),
        (endless, "a loop"),
        (function, "a loop"),
    ],
)
def test_onnx_graphs_that_read_files_or_never_end(
    change: Change, words: str, engine: str, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    # Both engines look for it in the current folder.
    (tmp_path / "weights.bin").write_bytes(bytes(4096))
    monkeypatch.chdir(tmp_path)
    _, graph, spec = read_model_file(tiny_onnx.read_bytes())
    model = onnx.load_from_string(graph)
    change(model)
    data = attach_spec(model.SerializeToString(), spec, "onnx")
    Path("bad.onnx").write_bytes(data)
    with pytest.raises(ModelFileError, match=f"the graph .*{words}.*: do not use this file"):
        load(data, engine=engine)
    with pytest.raises(ModelFileError, match=words):
        check_file("bad.onnx", load_profile("raspberry-pi-4b"))


def repacked(graph: bytes, change: Change) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(graph))
    change(model)
    builder = flatbuffers.Builder(len(graph))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def second_graph(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])


def outside(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model.externalBufferGroups = [schema.ExternalBufferGroupT(name="weights.bin")]


def other_scale(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization.scale = [2.0]


def scale_nan(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization.scale = [float("nan")]


def other_scores(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].quantization.scale = [0.5]


@pytest.mark.parametrize("engine", ["litert", "openvino"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (second_graph, "a loop"),
        (outside, "another file"),
        (other_scale, r"input has scale and zero point \(2.0, 0\), the metadata says \(1.0, 0\)"),
        (scale_nan, "nan"),
        (other_scores, "not a softmax's"),
    ],
)
def test_tflite_graphs_that_read_files_never_end_or_are_scaled_otherwise(
    change: Change, words: str, engine: str, tiny_tflite: Path
) -> None:
    _, graph, spec = read_model_file(tiny_tflite.read_bytes())
    assert load(attach_spec(repacked(graph, lambda model: None), spec, "tflite"), engine=engine)
    with pytest.raises(ModelFileError, match=words):
        load(attach_spec(repacked(graph, change), spec, "tflite"), engine=engine)


@pytest.mark.parametrize("changes", [{"input_scale": 2.0}, {"input_dtype": "float32"}])
@pytest.mark.parametrize("file", ["tiny_tflite", "tiny_tflite_fp32", "tiny_onnx"])
def test_metadata_of_another_input(changes: dict[str, Any], file: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(file)
    _, graph, spec = read_model_file(path.read_bytes())
    assert load(path)
    kind = path.suffix[1:]
    with pytest.raises(ModelFileError, match="the graph's input"):
        load(attach_spec(graph, replace(spec, **changes), kind))


def huge(op: str) -> bytes:
    """A graph that asks for 400 GB while it runs, or for an operator that nobody has."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("ConstantOfShape", ["many"], ["values"]), helper.make_node(op, ["values"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "huge",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, BLACK.shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, len(LABELS)))],
        [numpy_helper.from_array(np.array([1, 10**11]), "many")],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


@ENGINES
@pytest.mark.parametrize("op", ["Relu", "No\x1b[2Jsuch"])
def test_what_an_interpreter_says_is_one_line_of_the_error(
    op: str, engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = attach_spec(huge(op), make_spec(), "onnx")
    with pytest.raises(ModelFileError) as raised:
        load(data, engine=engine).scores(BLACK)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert capfd.readouterr().err == ""
