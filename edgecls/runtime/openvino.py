"""The OpenVINO engine: runs ONNX and TFLite graphs on the CPU. Fast on Intel processors."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.install import install_line
from edgecls.errors import MissingDependency, ModelFileError
from edgecls.limits import Format
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import detect_format
from edgecls.runtime.engines import TensorForm, check_tensors, one_line, shaped

_SCORES: dict[Format, tuple[str, ...]] = {"tflite": ("uint8", "int8", "float32"), "onnx": ("float32",)}
_DTYPES = {"u8": "uint8", "i8": "int8", "f32": "float32"}
# TFLite fixes the quantization of a softmax's output; OpenVINO returns the integers without it.
_SCORE_SCALE = np.float32(1 / 256)
_ZERO_POINTS = {"uint8": 0, "int8": -128}


class OpenvinoEngine:
    """A compiled OpenVINO model with one request. One thread at a time runs it, others wait.

    Attributes:
        name: "openvino".
        version: of the openvino package.
        device: "cpu".
        threads: of the compiled model.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, compiled: Any, version: str, spec: ModelSpec, threads: int, scores: tuple[str, ...]) -> None:
        inputs, outputs = _tensors(compiled.inputs), _tensors(compiled.outputs)
        # One channel, so (1, H, W, 1) and (1, 1, H, W) hold the same bytes in the same order.
        self._shape = check_tensors(inputs, outputs, spec, scores)
        self.version = version
        self.threads = threads
        self._lock = threading.Lock()
        self._request = compiled.create_infer_request()
        self._outputs = list(compiled.outputs)
        self._dtype = np.dtype(inputs[0].dtype)
        self._zero_point = _ZERO_POINTS.get(outputs[0].dtype)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        return self._infer(image)[0]

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores, float32 (C,), and the class activation map, float32 (h, w, C), of one image."""
        scores, heatmap = self._infer(image)
        return scores, heatmap

    def _infer(self, image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return what each output gives for one image; scores that the graph returns as integers are floats."""
        values = shaped(image, self._shape).astype(self._dtype, copy=False)
        with self._lock:
            try:
                results = self._request.infer({0: values}, share_inputs=True)
                scores, *more = [results[output][0] for output in self._outputs]
            except RuntimeError as error:
                raise ModelFileError(
                    f"OpenVINO {self.version} cannot run the graph: {one_line(error)}; re-export"
                ) from error
        if self._zero_point is not None:
            scores = (scores.astype(np.float32) - np.float32(self._zero_point)) * _SCORE_SCALE
        return [scores, *more]


def open_engine(graph: bytes, spec: ModelSpec, threads: int, device: str = "cpu") -> OpenvinoEngine:
    """Return the engine that holds this ONNX or TFLite graph.

    Raises:
        MissingDependency: openvino is not installed.
        ModelFileError: OpenVINO refuses the graph, or its shapes do not match the metadata.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependency(f"openvino cannot be imported ({error}); {install_line('openvino')}") from error
    version = openvino.__version__.split("-")[0]
    kind = detect_format(graph)
    try:
        core = openvino.Core()
        compiled = core.compile_model(read_model(core, graph, kind), "CPU", compile_settings(threads))
    except RuntimeError as error:
        raise ModelFileError(
            f"OpenVINO {version} cannot load the graph: {one_line(error)}; re-export, or upgrade it"
        ) from error
    return OpenvinoEngine(compiled, version, spec, threads, _SCORES[kind])


def compile_settings(threads: int) -> dict[str, Any]:
    """Return the settings with which models are compiled."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # The default rounds to bfloat16 on CPUs that have it, and float files would lose accuracy.
        "INFERENCE_PRECISION_HINT": "f32",
    }


def read_model(core: Any, graph: bytes, kind: Format) -> Any:
    """Return the `openvino.Model` of a graph, its shapes fixed."""
    if kind == "onnx":
        model = core.read_model(graph)
    else:
        # OpenVINO reads TFLite only from files.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "graph.tflite")
            path.write_bytes(graph)
            model = core.read_model(path)
    if len(model.inputs) == 1 and model.input(0).partial_shape.is_dynamic:
        sides = [1 if side.is_dynamic else side.get_length() for side in model.input(0).partial_shape]
        model.reshape(sides)
    return model


def _tensors(ports: list[Any]) -> list[TensorForm]:
    names = [port.element_type.get_type_name() for port in ports]
    return [TensorForm(_DTYPES.get(name, name), tuple(port.shape)) for name, port in zip(names, ports, strict=True)]
