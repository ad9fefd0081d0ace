from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.errors import ConfigError, MissingDependency, ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime import ort
from edgecls.runtime.classifier import load
from edgecls.runtime.cuda_graph import OPTIONS as RECORDED
from edgecls.runtime.cuda_graph import CudaGraph
from edgecls.runtime.ort import PROVIDERS, open_engine, with_options


def test_onnx_inputs_of_other_layouts(tmp_path: Path) -> None:
    """(1, 1, H, W), float32 and a batch of any size: one channel, so each reads the same bytes."""
    from onnx import TensorProto, helper

    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    layouts: list[tuple[list[Any], int]] = [
        (["n", 1, HEIGHT, WIDTH], TensorProto.FLOAT),
        ([1, HEIGHT, WIDTH, 1], TensorProto.UINT8),
    ]
    for shape, dtype in layouts:
        spec = make_spec(input_dtype="float32" if dtype == TensorProto.FLOAT else "uint8")
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["scores"]),
        ]
        ints = {"starts": [0], "ends": [3], "axes": [1]}
        graph = helper.make_graph(
            nodes,
            "first three pixels",
            [helper.make_tensor_value_info("image", dtype, shape)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], 3])],
            [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in ints.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / "model.onnx"
        path.write_bytes(attach_spec(model.SerializeToString(), spec, "onnx"))
        np.testing.assert_array_equal(load(path).predict(image).scores, image.ravel()[:3].astype(np.float32))


@pytest.mark.parametrize(
    ("device", "got"),
    [
        ("cpu", ["OtherExecutionProvider"]),
        ("cuda", ["CPUExecutionProvider"]),
        ("tensorrt", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("tensorrt", ["TensorrtExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_a_provider_left_out_is_an_error(
    device: str, got: list[str], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def open_session(graph: bytes, options: Any, **settings: Any) -> Any:
        asked.update(settings)
        return SimpleNamespace(get_providers=lambda: got)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS["tensorrt"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("libcudnn.so not found"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    with pytest.raises(ConfigError, match=f"asked for {', '.join(PROVIDERS[device])}, onnxruntime .* runs {got[0]}"):
        load(tiny_onnx, device=device)
    # Else ONNX Runtime would try again with the CPU, by itself.
    recorded = RECORDED if device == "cuda" else None
    assert asked == {"providers": with_options(PROVIDERS[device], recorded), "enable_fallback": 0}
    assert capsys.readouterr().out == ""


def test_cuda_computes_in_full_float32() -> None:
    """TF32 moved an H200's scores by up to 0.02."""
    assert with_options(PROVIDERS["cuda"]) == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    assert with_options(PROVIDERS["cpu"]) == PROVIDERS["cpu"]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_provider_without_its_libraries_names_them(
    device: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_session(graph: bytes, options: Any, **settings: Any) -> Any:
        raise RuntimeError(
            "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:539 void onnxruntime::python::"
            "RegisterTensorRTPluginsAsCustomOps(const onnxruntime::ProviderOptions&) "
            "Please install TensorRT libraries as mentioned in the GPU requirements page.\n"
        )

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS[device])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    with pytest.raises(
        ConfigError,
        match=f"with {PROVIDERS[device][0]}: Please install .* page; install the libraries .*CUDA",
    ):
        load(tiny_onnx, device=device)


def test_an_error_shows_its_cause_without_the_source_it_comes_from(tiny_onnx: Path) -> None:
    """The names of files and functions of ONNX Runtime filled the line, and the cause was cut off."""
    model = onnx.load_from_string(read_model_file(tiny_onnx).graph)
    model.ir_version = 99
    with pytest.raises(ModelFileError, match=r"graph: \[ONNXRuntimeError\] : 1 : FAIL : Unsupported model IR"):
        open_engine(model.SerializeToString(), read_model_file(tiny_onnx).spec, 1)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_the_providers_got_are_the_devices(device: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession

    def open_session(graph: bytes, options: Any, **_: Any) -> Any:
        session = real(graph, options, providers=PROVIDERS["cpu"])
        monkeypatch.setattr(session, "get_providers", lambda: PROVIDERS[device])
        return session

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS[device])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(ort, "CudaGraph", lambda session: CudaGraph(session, device="cpu"))
    engine = load(tiny_onnx, device=device).engine
    image = np.full((1, HEIGHT, WIDTH, 1), 7, np.uint8)
    assert engine.device == device
    scores = engine.run(image)
    monkeypatch.undo()
    np.testing.assert_array_equal(scores, load(tiny_onnx).engine.run(image))


def test_a_network_that_cannot_be_recorded_runs_on_cuda_without(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession

    def open_session(graph: bytes, options: Any, providers: list[Any], **_: Any) -> Any:
        if RECORDED.items() <= providers[0][1].items():
            raise RuntimeError("This session cannot use the graph capture feature")
        session = real(graph, options, providers=PROVIDERS["cpu"])
        monkeypatch.setattr(session, "get_providers", lambda: PROVIDERS["cuda"])
        return session

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS["cuda"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    image = np.full((1, HEIGHT, WIDTH, 1), 7, np.uint8)
    scores = load(tiny_onnx, device="cuda").engine.run(image)
    monkeypatch.undo()
    np.testing.assert_array_equal(scores, load(tiny_onnx).engine.run(image))


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_names_the_wheel(
    device: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS["cpu"])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(
        MissingDependency,
        match=rf"has no {PROVIDERS[device][0]}, only CPUExecutionProvider; .* pip install 'edgecls\[gpu\]'",
    ):
        load(tiny_onnx, device=device)


def test_the_session_has_the_threads_and_is_quiet(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = onnxruntime.InferenceSession

    def open_session(graph: bytes, options: Any, **settings: Any) -> Any:
        seen.append(options)
        return real(graph, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    load(tiny_onnx, engine="ort", threads=3)
    assert (seen[0].intra_op_num_threads, seen[0].inter_op_num_threads, seen[0].log_severity_level) == (3, 1, 4)
