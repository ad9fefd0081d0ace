from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.errors import MissingDependency, ModelFileError
from edgecls.model_file.write import attach_spec
from edgecls.runtime import openvino as openvino_module
from edgecls.runtime.classifier import load

openvino = pytest.importorskip("openvino")

IMAGES = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 1), np.uint8)
IMAGES[:2] = [[[[0]]], [[[255]]]]


@pytest.mark.parametrize(
    ("fixture", "tolerance"),
    # Float arithmetic in another order. int8 kernels that round differently: 2 steps of 1/256; float inside.
    [("tiny_onnx", 1e-5), ("tiny_tflite_fp32", 1e-5), ("tiny_tflite", 2.5 / 256)],
)
def test_agrees_with_the_files_own_runtime(fixture: str, tolerance: float, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(fixture)
    classifier = load(path, engine="openvino", threads=2)
    scores = classifier.scores(IMAGES)
    np.testing.assert_allclose(scores, load(path).scores(IMAGES), atol=tolerance)
    assert scores.dtype == np.float32 and np.ptp(scores, axis=0).max() > 0.1
    engine = classifier.engine
    assert (engine.name, engine.device, engine.threads) == ("openvino", "cpu", 2)
    assert openvino.__version__.startswith(engine.version)


def test_an_answer_is_not_a_view_of_the_next(tiny_onnx: Path) -> None:
    classifier = load(tiny_onnx, engine="openvino")
    first = classifier.predict(IMAGES[0]).scores
    kept = first.copy()
    classifier.predict(IMAGES[1])
    np.testing.assert_array_equal(first, kept)


def test_float_files_are_not_rounded_to_bfloat16(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    real = openvino.Core.compile_model

    def compile_model(*arguments: Any) -> Any:
        compiled.append(real(*arguments))
        return compiled[0]

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    load(tiny_onnx, engine="openvino", threads=1)
    got = {name: compiled[0].get_property(name) for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS")}
    assert got == {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": 1}
    assert str(compiled[0].get_property("PERFORMANCE_HINT")).endswith("LATENCY")


def _pixels_graph(shape: list[Any], score_type: int) -> bytes:
    """ONNX graph whose scores are the first three pixels."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["cut"]),
        helper.make_node("Cast", ["cut"], ["scores"], to=score_type),
    ]
    ints = {"starts": 0, "ends": 3, "axes": 1}
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", score_type, [shape[0], 3])],
        [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in ints.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def test_a_batch_of_any_size_and_channels_first(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(attach_spec(_pixels_graph(["n", 1, HEIGHT, WIDTH], 1), make_spec(input_dtype="float32"), "onnx"))
    scores = load(path, engine="openvino").predict(IMAGES[5]).scores
    np.testing.assert_array_equal(scores, IMAGES[5].ravel()[:3].astype(np.float32))


def test_graphs_that_are_refused(tmp_path: Path) -> None:
    integers = _pixels_graph([1, 1, HEIGHT, WIDTH], 2)
    graphs: list[tuple[Any, bytes, str]] = [
        ("onnx", integers, r"output must be float32 \(1, 3\); received uint8"),
        ("onnx", b"\x08\x08\x3a\x03\x12\x01g", "re-export"),
        ("tflite", b"\x1c\0\0\0TFL3" + bytes(100), "damaged: the TFLite graph cannot be read"),
    ]
    for kind, graph, message in graphs:
        path = tmp_path / f"model.{kind}"
        path.write_bytes(attach_spec(graph, make_spec(input_dtype="float32"), kind))
        with pytest.raises(ModelFileError, match=message):
            load(path, engine="openvino")


def test_integer_scores_of_either_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, raw in (("u8", [0, 128, 255]), ("i8", [-128, 0, 127])):
        dtype = np.dtype(openvino_module._DTYPES[name])
        compiled = _Compiled(name, np.array([raw], dtype))
        engine = openvino_module.OpenvinoEngine(compiled, "0", make_spec(), 1, ("uint8", "int8"))
        assert engine.run(IMAGES[:1]).tolist() == [0, 0.5, 255 / 256]


class _Port:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.element_type = self
        self.get_type_name = lambda: name


class _Compiled:
    def __init__(self, name: str, scores: np.ndarray) -> None:
        self.inputs, self.outputs = [_Port("u8", (1, HEIGHT, WIDTH, 1))], [_Port(name, (1, 3))]
        self.infer = lambda *_, **__: {self.outputs[0]: scores}
        self.create_infer_request = lambda: self


def test_a_missing_package_names_the_extra(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[openvino\]'"):
        load(tiny_onnx, engine="openvino")
