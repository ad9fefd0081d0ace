"""The ONNX Runtime engine: runs ONNX graphs on the CPU, or on an NVIDIA GPU through CUDA or TensorRT."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.install import install_line
from edgecls.errors import ConfigError, EdgeclsError, MissingDependency, ModelFileError
from edgecls.model_file.metadata import ModelSpec
from edgecls.runtime.cuda_graph import OPTIONS as RECORDED
from edgecls.runtime.cuda_graph import CudaGraph
from edgecls.runtime.engines import TensorForm, check_tensors, one_line, shaped

# Device -> its provider, and the fallbacks for operators that it does not support.
PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
# By default CUDA rounds float32 to TF32's 10 bits: scores moved by up to 0.02 on an H200. The accuracy in the file
# is that of float32.
_CUDA_OPTIONS = {"use_tf32": "0"}
_LIBRARIES = {"cuda": "CUDA and cuDNN", "tensorrt": "TensorRT, CUDA and cuDNN"}
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
# What ONNX Runtime writes before a cause: the source file it was built from, the line, and the function with its types.
_ORIGIN = re.compile(
    r"[^\s:]{1,200}\.(?:cc|cpp|cu|h):\d+ (?:[^()]*::~?\w+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? )?"
)


class OrtEngine:
    """An ONNX Runtime session with its input and output looked up once. Threads run it side by side.

    Attributes:
        name: "onnxruntime".
        version: of the onnxruntime package.
        device: "cpu", "cuda" or "tensorrt".
        threads: of the session.
    """

    name = "onnxruntime"

    def __init__(
        self, session: Any, version: str, spec: ModelSpec, threads: int, device: str, graph: CudaGraph | None = None
    ) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        # One channel, so (1, H, W, 1) and (1, 1, H, W) hold the same bytes in the same order.
        self._shape = check_tensors(_tensors(inputs), _tensors(outputs), spec, ("float32",))
        self.version = version
        self.threads = threads
        self.device = device
        self._session = session
        self._graph = graph
        self._errors = _session_errors()
        self._input = inputs[0].name
        self._outputs = [output.name for output in outputs]
        self._dtype = np.dtype(_DTYPES[inputs[0].type])

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        scores: NDArray[np.float32] = self._run(image, self._outputs[:1])[0]
        return scores

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores, float32 (C,), and the class activation map, float32 (h, w, C), of one image."""
        scores, heatmap = self._run(image, self._outputs)
        return scores, heatmap

    def _run(self, image: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        values = shaped(image, self._shape).astype(self._dtype, copy=False)
        try:
            if self._graph is not None:
                return [batch[0] for batch in self._graph.run(values, len(outputs))]
            return [batch[0] for batch in self._session.run(outputs, {self._input: values})]
        except self._errors as error:
            raise ModelFileError(
                f"onnxruntime {self.version} cannot run the graph: {_cause(error)}; re-export"
            ) from error


def open_engine(graph: bytes, spec: ModelSpec, threads: int, device: str = "cpu") -> OrtEngine:
    """Return the engine that holds this ONNX graph.

    Raises:
        ConfigError: ONNX Runtime left out a provider that was asked for.
        MissingDependency: onnxruntime is not installed, or was built without the device's provider.
        ModelFileError: ONNX Runtime refuses the graph, or its shapes do not match the metadata.
    """
    try:
        import onnxruntime
    except ImportError as error:
        line = install_line("onnxruntime", device)
        raise MissingDependency(f"onnxruntime cannot be imported ({error}); {line}") from error
    providers = PROVIDERS[device]
    version = onnxruntime.__version__
    if providers[0] not in (available := onnxruntime.get_available_providers()):
        line = install_line("onnxruntime", device)
        raise MissingDependency(f"onnxruntime {version} has no {providers[0]}, only {', '.join(available)}; {line}")
    if device != "cpu":
        _prepare_gpu(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Errors are raised; the log would repeat them, with unescaped names from the file.
    options.log_severity_level = 4
    session, recording = _open_recorded(graph, options, spec) if device == "cuda" else (None, None)
    try:
        asked = with_options(providers)
        session = session or onnxruntime.InferenceSession(graph, options, providers=asked, enable_fallback=0)
    except _session_errors() as error:
        raise _load_error(f"onnxruntime {version}", device, error) from error
    # ONNX Runtime silently drops a provider that it cannot start.
    if (got := session.get_providers()) != providers:
        raise ConfigError(
            f"asked for {', '.join(providers)}, onnxruntime {version} runs {', '.join(got)}; check that the GPU's "
            "driver, CUDA, cuDNN and TensorRT are of the versions that this onnxruntime wants"
        )
    return OrtEngine(session, version, spec, threads, device, recording)


def _cause(error: Exception) -> str:
    # Names from the file make an error as long as they like.
    return one_line(_ORIGIN.sub("", str(error)[:5000])).rstrip(".")


def _load_error(runtime: str, device: str, error: Exception) -> EdgeclsError:
    if device == "cpu":
        return ModelFileError(f"{runtime} cannot load the graph: {_cause(error)}; re-export, or upgrade it")
    return ConfigError(
        f"{runtime} cannot load the graph with {PROVIDERS[device][0]}: {_cause(error)}; install the libraries "
        f"that this provider needs ({_LIBRARIES[device]}), or choose another device"
    )


def _open_recorded(graph: bytes, options: Any, spec: ModelSpec) -> tuple[Any, CudaGraph | None]:
    """Return a session on CUDA with a CUDA graph, and the graph; (None, None) where that is not possible.

    A CUDA graph cannot hold operators that run on the CPU, as some of an int8 file do.
    """
    import onnxruntime

    if spec.precision == "int8":
        return None, None
    try:
        providers = with_options(PROVIDERS["cuda"], RECORDED)
        session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        # Without CUDA the session runs on the CPU.
        if session.get_providers() != PROVIDERS["cuda"]:
            return session, None
        return session, CudaGraph(session)
    except _session_errors():
        return None, None  # the caller opens the model without a CUDA graph, and reports any error


def with_options(providers: list[str], options: dict[str, str] | None = None) -> list[Any]:
    """Return the providers with their options; CUDA's keep float32 exact."""
    cuda = _CUDA_OPTIONS | (options or {})
    return [(name, cuda) if name == "CUDAExecutionProvider" else name for name in providers]


def _prepare_gpu(onnxruntime: Any) -> None:
    """Load the CUDA libraries of NVIDIA's wheels; what is missing is reported by our own errors."""
    # Older versions only use the system's search path.
    if hasattr(onnxruntime, "preload_dlls"):
        # It prints the names of the libraries that it does not find.
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(4)


def _session_errors() -> tuple[type[Exception], ...]:
    # Their only common base is Exception, which would hide our own bugs.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NotImplemented",
        "RuntimeException",
    )
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))


def _tensors(tensors: list[Any]) -> list[TensorForm]:
    return [TensorForm(_DTYPES.get(each.type, each.type), tuple(each.shape)) for each in tensors]
