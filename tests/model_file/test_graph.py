"""The readers of TFLite and ONNX files against the packages that own the formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecls.errors import ModelFileError
from edgecls.limits import Format
from edgecls.model_file.graph import Graph
from edgecls.model_file.onnx import DTYPES as ONNX_DTYPES
from edgecls.model_file.read import read_graph, read_model_file
from edgecls.model_file.tflite import BUILTINS, DTYPES, OPTIONS


def schema_names(enum: Any) -> list[str]:
    values = {value: name for name, value in vars(enum).items() if not name.startswith("_")}
    return [values[i] for i in sorted(values)]


def test_names_are_those_of_litert_and_onnx() -> None:
    import onnx
    from ai_edge_litert import schema_py_generated as schema

    assert list(BUILTINS) == schema_names(schema.BuiltinOperator)[: len(BUILTINS)]
    assert [name.upper() for name in DTYPES] == schema_names(schema.TensorType)[: len(DTYPES)]
    as_onnx = {"float32": "float", "float64": "double"}
    ours = [as_onnx.get(name, name).replace("_", "").upper() for name in ONNX_DTYPES]
    assert ours == [onnx.TensorProto.DataType.Name(i) for i in range(len(ours))]


def check_tflite(path: Path) -> None:
    """Assert that our reader finds what LiteRT's object API finds."""
    from ai_edge_litert import schema_py_generated as schema

    _, content, _ = read_model_file(path.read_bytes())
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    main = model.subgraphs[0]
    graph = read_graph(content, "tflite")
    assert len(graph.nodes) == len(main.operators) > 0
    for node, operator in zip(graph.nodes, main.operators, strict=True):
        code = model.operatorCodes[operator.opcodeIndex]
        assert (node.op, node.version) == (BUILTINS[max(code.builtinCode, code.deprecatedBuiltinCode)], code.version)
        # Left-out inputs are -1.
        listed = [main.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
        for ours, theirs in zip((*node.inputs, *node.outputs), listed, strict=True):
            scale = theirs.quantization.scale if theirs.quantization else None
            buffer = model.buffers[theirs.buffer].data
            assert ours.name == theirs.name.decode()
            assert ours.dtype == DTYPES[theirs.type]
            assert ours.scales == (0 if scale is None else len(scale))
            assert ours.data == (b"" if buffer is None else np.asarray(buffer, np.uint8).tobytes())
            assert [max(side, 1) for side in ours.shape] == list(theirs.shape if theirs.shape is not None else ())
    (runtime,) = [bytes(model.buffers[m.buffer].data) for m in model.metadata if m.name == b"min_runtime_version"]
    assert graph.min_runtime == runtime.rstrip(b"\0").decode()


def test_tflite_is_read_as_litert_reads_it(tiny_tflite: Path, tiny_tflite_fp32: Path) -> None:
    check_tflite(tiny_tflite)
    check_tflite(tiny_tflite_fp32)


def test_options_are_read_as_litert_reads_them() -> None:
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    conv = schema.Conv2DOptionsT()
    conv.dilationWFactor, conv.dilationHFactor = 3, 1
    dense = schema.FullyConnectedOptionsT()
    dense.keepNumDims, dense.weightsFormat = True, 1
    pool = schema.Pool2DOptionsT()
    pool.fusedActivationFunction = 3
    depthwise = schema.DepthwiseConv2DOptionsT()
    depthwise.dilationHFactor = 2
    join = schema.ConcatenationOptionsT()
    join.fusedActivationFunction = 1
    kinds = {"CONV_2D": conv, "FULLY_CONNECTED": dense, "MAX_POOL_2D": pool, "DEPTHWISE_CONV_2D": depthwise}
    kinds["CONCATENATION"] = join
    model, main, tensor = schema.ModelT(), schema.SubGraphT(), schema.TensorT()
    tensor.name, tensor.shape, tensor.shapeSignature = "x", [1, 4], [-1, 4]
    main.tensors, main.inputs, main.outputs = [tensor], [0], [0]
    model.buffers, model.metadata = [schema.BufferT()], []
    model.operatorCodes, main.operators = [], []
    for name, options in kinds.items():
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = BUILTINS.index(name)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), [0, -1], [0]
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        model.operatorCodes.append(code)
        main.operators.append(operator)
    model.subgraphs = [main]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = read_graph(bytes(builder.Output()), "tflite")
    assert {node.op: node.options for node in graph.nodes} == {
        "CONV_2D": {"dilation_w": 3, "dilation_h": 1},
        "DEPTHWISE_CONV_2D": {"dilation_w": 1, "dilation_h": 2},
        "FULLY_CONNECTED": {"weights_format": 1, "keep_num_dims": 1},
        "MAX_POOL_2D": {"activation": 3},
        "CONCATENATION": {"activation": 1},
    }
    assert OPTIONS.keys() - kinds.keys() == {"AVERAGE_POOL_2D"}
    assert graph.inputs[0].shape == (-1, 4)
    assert graph.min_runtime == ""


def test_onnx_is_read_as_onnx_reads_it(tiny_onnx: Path) -> None:
    import onnx

    _, content, _ = read_model_file(tiny_onnx.read_bytes())
    model = onnx.load_from_string(content)
    graph = read_graph(content, "onnx")
    assert (graph.ir, graph.opset) == (model.ir_version, 17)
    assert [node.op for node in graph.nodes] == [node.op_type for node in model.graph.node]
    assert [[t.name for t in n.inputs] for n in graph.nodes] == [[i for i in n.input if i] for n in model.graph.node]
    assert [(t.name, t.shape, t.dtype) for t in graph.inputs] == [("image", (1, 12, 10, 1), "uint8")]
    assert [(t.shape, t.dtype) for t in graph.outputs] == [((1, 3), "float32")]
    constants = {t.name: (t.shape, t.dtype) for t in graph.tensors if t.is_constant}
    named = {name for node in model.graph.node for name in node.input}
    for weights in model.graph.initializer:
        if weights.name in named:
            as_numpy = onnx.numpy_helper.to_array(weights)
            assert constants[weights.name] == (as_numpy.shape, str(as_numpy.dtype))


def make_onnx(domain: str = "", shape: tuple[Any, ...] = (1,), opset: int = 17) -> Graph:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], domain=domain)], "g", value[:1], value[1:])
    imports = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid(domain, opset)]
    return read_graph(helper.make_model(graph, opset_imports=imports).SerializeToString(), "onnx")


def test_onnx_domains_open_shapes_and_operator_sets() -> None:
    assert make_onnx(shape=("batch", 4)).inputs[0].shape == (-1, 4)
    assert make_onnx(shape=(None, 4)).inputs[0].shape == (-1, 4)
    assert make_onnx(opset=200).opset == 200
    assert [make_onnx(domain).nodes[0].domain for domain in ("", "ai.onnx", "com.acme")] == ["", "", "com.acme"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_of_ours(data: st.DataObject, tiny_tflite: Path, tiny_onnx: Path) -> None:
    kind: Format = data.draw(st.sampled_from(("tflite", "onnx")))
    content = bytearray(read_model_file((tiny_tflite if kind == "tflite" else tiny_onnx).read_bytes()).graph)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    try:
        read_graph(bytes(content[:cut]), kind)
    except ModelFileError as error:
        assert "damaged" in str(error)
