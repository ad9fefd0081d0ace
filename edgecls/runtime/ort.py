"""The ONNX Runtime engine: runs ONNX graphs on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError, MissingDependency, ModelFileError
from edgecls.spec import ModelSpec

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class OrtEngine:
    """An ONNX Runtime session with its input and output looked up once. Threads may share it.

    Attributes:
        name: "onnxruntime".
        version: of the onnxruntime package.
    """

    name = "onnxruntime"

    def __init__(self, session: Any, version: str, spec: ModelSpec) -> None:
        source, target = _only_tensor(session.get_inputs()), _only_tensor(session.get_outputs())
        _check_tensors(source, target, spec)
        self.version = version
        self._session = session
        self._input = source.name
        self._outputs = [target.name]
        self._dtype = _DTYPES[source.type]
        # One channel, so (1, H, W, 1) and (1, 1, H, W) hold the same bytes in the same order.
        height, width = spec.height, spec.width
        self._shape = (1, height, width, 1) if _fits(source.shape, (1, height, width, 1)) else (1, 1, height, width)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        values = image.reshape(self._shape).astype(self._dtype, copy=False)
        scores: NDArray[np.float32] = self._session.run(self._outputs, {self._input: values})[0][0]
        return scores


def open_engine(graph: bytes, spec: ModelSpec, threads: int) -> OrtEngine:
    """Return the engine that holds this ONNX graph.

    Raises:
        ConfigError: ONNX Runtime left out the provider that was asked for.
        MissingDependency: onnxruntime is not installed.
        ModelFileError: ONNX Runtime refuses the graph, or its shapes are not the contract's.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(f"onnxruntime cannot be imported ({error}); pip install 'edgecls[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
    except _session_errors() as error:
        version = onnxruntime.__version__
        raise ModelFileError(
            f"onnxruntime {version} cannot load the graph: {error}; re-export, or upgrade it"
        ) from error
    # ONNX Runtime goes on without a provider that it cannot start.
    if session.get_providers() != providers:
        raise ConfigError(f"asked for {providers}, onnxruntime runs {session.get_providers()}; reinstall onnxruntime")
    return OrtEngine(session, onnxruntime.__version__, spec)


def _session_errors() -> tuple[type[Exception], ...]:
    # They share no base but Exception, which would hide our own bugs.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NotImplemented",
        "RuntimeException",
    )
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))


def _only_tensor(tensors: list[Any]) -> Any:
    if len(tensors) != 1:
        raise ModelFileError(f"the graph must have one input and one output; received {len(tensors)}; re-export")
    return tensors[0]


def _check_tensors(source: Any, target: Any, spec: ModelSpec) -> None:
    last, first = (1, spec.height, spec.width, 1), (1, 1, spec.height, spec.width)
    if source.type not in _DTYPES or not (_fits(source.shape, last) or _fits(source.shape, first)):
        received = f"{source.type} {source.shape}"
        raise ModelFileError(f"the graph's input must be uint8 or float32 {last}; received {received}; re-export")
    if target.type != "tensor(float)" or not _fits(target.shape, (1, len(spec.labels))):
        received = f"{target.type} {target.shape}"
        raise ModelFileError(
            f"the graph's output must be float32 (1, {len(spec.labels)}); received {received}; re-export"
        )


def _fits(shape: list[int | str | None], expected: tuple[int, ...]) -> bool:
    # A batch of any size is a name or None.
    return tuple(shape[1:]) == expected[1:] and (shape[0] == 1 or not isinstance(shape[0], int))
