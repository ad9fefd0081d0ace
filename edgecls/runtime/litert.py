"""The LiteRT engine: runs TFLite graphs with ai_edge_litert, or with tflite_runtime where only that has wheels."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import MissingDependency, ModelFileError
from edgecls.spec import ModelSpec

PACKAGES = ("ai_edge_litert", "tflite_runtime")
# File descriptor 2 belongs to the whole process: two threads that load at once must not swap it under each other.
_STDERR_LOCK = threading.Lock()


class LitertEngine:
    """A TFLite interpreter with its input and output looked up once. One thread runs it at a time.

    Attributes:
        name: "litert".
        version: of the interpreter's package.
    """

    name = "litert"

    def __init__(self, interpreter: Any, version: str, spec: ModelSpec) -> None:
        source, target = _only_tensor(interpreter.get_input_details()), _only_tensor(interpreter.get_output_details())
        self.version = version
        self._lock = threading.Lock()
        self._interpreter = interpreter
        self._input = int(source["index"])
        self._output = int(target["index"])
        # Scaling lives in the graph, so float inputs take the raw 0..255 too.
        self._float_input = source["dtype"] == np.float32
        self._dequantize = np.dtype(target["dtype"]) != np.float32
        self._scale, self._zero_point = target["quantization"]
        _check_tensors(source, target, spec)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        values = image.astype(np.float32) if self._float_input else image
        with self._lock:
            self._interpreter.set_tensor(self._input, values)
            self._interpreter.invoke()
            scores: NDArray[Any] = self._interpreter.get_tensor(self._output)[0]
        if self._dequantize:
            # Widened first: 200 - (-128) does not fit 8 bits.
            return (scores.astype(np.float32) - np.float32(self._zero_point)) * np.float32(self._scale)
        return scores


def open_engine(graph: bytes, spec: ModelSpec, threads: int) -> LitertEngine:
    """Return the engine that holds this TFLite graph.

    Raises:
        MissingDependency: no interpreter is installed, or not one that fits NumPy.
        ModelFileError: the interpreter refuses the graph, or its shapes are not the contract's.
    """
    interpreter_class, version = _import_interpreter()
    with _captured_stderr() as captured:
        try:
            interpreter = interpreter_class(model_content=graph, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            captured.seek(0)
            told = f"{error} {captured.read().decode(errors='replace')}".strip()
            raise ModelFileError(f"LiteRT {version} cannot load the graph: {told}; re-export, or upgrade it") from error
    return LitertEngine(interpreter, version, spec)


def _import_interpreter() -> tuple[Any, str]:
    found = next((name for name in PACKAGES if importlib.util.find_spec(name)), None)
    if found is None:
        raise MissingDependency("no LiteRT interpreter is installed; pip install 'edgecls[litert]'")
    if found == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        raise MissingDependency(
            f"tflite_runtime was built for NumPy 1, here is {np.__version__}; pip install 'numpy<2'"
        )
    try:
        module = importlib.import_module(f"{found}.interpreter")
        version = str(importlib.import_module(found).__version__)
    except ImportError as error:
        raise MissingDependency(f"{found} cannot be imported ({error}); pip install 'edgecls[litert]'") from error
    return module.Interpreter, version


def _only_tensor(details: list[dict[str, Any]]) -> dict[str, Any]:
    if len(details) != 1:
        raise ModelFileError(f"the graph must have one input and one output; received {len(details)}; re-export")
    return details[0]


def _check_tensors(source: dict[str, Any], target: dict[str, Any], spec: ModelSpec) -> None:
    expected = (1, spec.height, spec.width, 1)
    if tuple(source["shape"]) != expected or source["dtype"] not in (np.uint8, np.float32):
        received = f"{np.dtype(source['dtype'])} {tuple(source['shape'])}"
        raise ModelFileError(f"the graph's input must be uint8 or float32 {expected}; received {received}; re-export")
    if tuple(target["shape"]) != (1, len(spec.labels)) or target["dtype"] not in (np.uint8, np.int8, np.float32):
        received = f"{np.dtype(target['dtype'])} {tuple(target['shape'])}"
        raise ModelFileError(f"the graph's output must be (1, {len(spec.labels)}); received {received}; re-export")


@contextmanager
def _captured_stderr() -> Iterator[IO[bytes]]:
    """Keep what C++ code writes to file descriptor 2; on leaving, pass on all but its INFO lines."""
    with _STDERR_LOCK, tempfile.TemporaryFile() as captured:
        saved = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield captured
        except BaseException:
            captured.truncate(0)
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            captured.seek(0)
            if told := b"".join(line for line in captured if not line.startswith(b"INFO:")):
                os.write(2, told)
