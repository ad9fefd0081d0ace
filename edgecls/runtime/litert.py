"""The LiteRT engine: runs TFLite graphs with ai_edge_litert, or with tflite_runtime where only that has wheels.

A Coral's Edge TPU is reached through libedgetpu's delegate; pycoral is not needed.
"""

from __future__ import annotations

import ctypes
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

from edgecls.boards.install import install_line
from edgecls.errors import ConfigError, MissingDependency, ModelFileError
from edgecls.model_file.metadata import ModelSpec
from edgecls.runtime.engines import TensorForm, check_tensors, import_names, one_line, shaped

EDGETPU_LIBRARY = "libedgetpu.so.1"
# The operator with which edgetpu_compiler replaces all that the Edge TPU runs.
EDGETPU_OPERATOR = b"edgetpu-custom-op"
# The same of Vela, for Arm's Ethos-U.
ETHOSU_OPERATOR = b"ethos-u"
# File descriptor 2 is shared by all threads; only one of them may replace it at a time.
_STDERR_LOCK = threading.Lock()


class LitertEngine:
    """A TFLite interpreter with its input and output looked up once. One thread at a time runs it, others wait.

    Attributes:
        name: "litert".
        version: of the interpreter's package.
        device: "cpu" or "edgetpu".
        threads: of the interpreter.
    """

    name = "litert"

    def __init__(self, interpreter: Any, version: str, spec: ModelSpec, threads: int = 1, device: str = "cpu") -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self._shape = check_details(inputs, outputs, spec)
        source, target = inputs[0], outputs[0]
        self.version = version
        self.threads = threads
        self.device = device
        self._lock = threading.Lock()
        self._interpreter = interpreter
        self._input = int(source["index"])
        self._output = int(target["index"])
        self._heatmap = int(outputs[-1]["index"])
        # Scaling lives in the graph, so float inputs take the raw 0..255 too.
        self._float_input = source["dtype"] == np.float32
        self._dequantize = np.dtype(target["dtype"]) != np.float32
        scale, zero_point = target["quantization"]
        self._scale, self._zero_point = np.float32(scale), np.float32(zero_point)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        with self._lock:
            return self._invoke(image)

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores, float32 (C,), and the class activation map, float32 (h, w, C), of one image."""
        with self._lock:
            return self._invoke(image), self._interpreter.get_tensor(self._heatmap)[0]

    def _invoke(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = shaped(image, self._shape)
        self._interpreter.set_tensor(self._input, values.astype(np.float32) if self._float_input else values)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelFileError(f"LiteRT {self.version} cannot run the graph: {one_line(error)}; re-export") from error
        scores: NDArray[Any] = self._interpreter.get_tensor(self._output)[0]
        if self._dequantize:
            # Widened first: 200 - (-128) does not fit 8 bits.
            return (scores.astype(np.float32) - self._zero_point) * self._scale
        return scores


def open_engine(graph: bytes, spec: ModelSpec, threads: int, device: str = "cpu") -> LitertEngine:
    """Return the engine that holds this TFLite graph.

    Raises:
        ConfigError: the graph is not compiled for this device, or no Edge TPU answers.
        MissingDependency: no interpreter is installed, or not one that fits NumPy, or no Edge TPU library.
        ModelFileError: the interpreter refuses the graph, or its shapes do not match the metadata.
    """
    check_compiled(graph, device)
    module, version = import_interpreter()
    delegates = [_load_edgetpu(module)] if device == "edgetpu" else None
    with captured_stderr() as captured:
        try:
            interpreter = module.Interpreter(model_content=graph, num_threads=threads, experimental_delegates=delegates)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            captured.seek(0)
            reason = f"{error} {captured.read().decode(errors='replace')}".strip()
            raise ModelFileError(
                f"LiteRT {version} cannot load the graph: {one_line(reason)}; re-export, or upgrade it"
            ) from error
    return LitertEngine(interpreter, version, spec, threads, device)


def check_compiled(graph: bytes, device: str) -> None:
    """Raise ConfigError unless a graph is compiled for this device, or for none."""
    if ETHOSU_OPERATOR in graph:
        raise ConfigError(
            "this file is compiled for an Arm Ethos-U, which edgecls has no engine for; use the file that it was "
            "compiled from"
        )
    compiled = EDGETPU_OPERATOR in graph
    # The delegate would accept the file and leave all of it to the CPU.
    if device == "edgetpu" and not compiled:
        raise ConfigError("device 'edgetpu' needs a compiled file, and this file is not; run edgetpu_compiler on it")
    if device != "edgetpu" and compiled:
        raise ConfigError(
            f"this file is compiled for the Edge TPU, and device {device!r} cannot run it; use device 'edgetpu', or "
            "the file that it was compiled from"
        )


def import_interpreter() -> tuple[Any, str]:
    """Return the interpreter's module and the version of its package; raise MissingDependency if there is none."""
    found = next((name for name in import_names("litert") if importlib.util.find_spec(name)), None)
    if found is None:
        raise MissingDependency(f"no LiteRT interpreter is installed; {install_line('litert')}")
    if found == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        raise MissingDependency(
            f"tflite_runtime was built for NumPy 1, but {np.__version__} is installed; pip install 'numpy<2'"
        )
    try:
        module = importlib.import_module(f"{found}.interpreter")
        version = str(importlib.import_module(found).__version__)
    except ImportError as error:
        raise MissingDependency(f"{found} cannot be imported ({error}); {install_line('litert')}") from error
    return module, version


def _load_edgetpu(module: Any) -> Any:
    try:
        # load_delegate itself prints a traceback if there is no library.
        ctypes.CDLL(EDGETPU_LIBRARY)
    except OSError as error:
        raise MissingDependency(
            f"device 'edgetpu' needs {EDGETPU_LIBRARY} ({error}); install Google's Debian package libedgetpu1-std"
        ) from error
    try:
        return module.load_delegate(EDGETPU_LIBRARY)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Edge TPU answers ({str(error).strip()}); check that it is plugged in and that this user may use it"
        ) from error


def check_details(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], spec: ModelSpec
) -> tuple[int, int, int, int]:
    """Return what `check_tensors` returns for an interpreter's input and output details, and raise as it does."""
    return check_tensors(_tensors(inputs), _tensors(outputs), spec, ("uint8", "int8", "float32"))


def _tensors(details: list[dict[str, Any]]) -> list[TensorForm]:
    return [TensorForm(np.dtype(each["dtype"]).name, tuple(int(side) for side in each["shape"])) for each in details]


@contextmanager
def captured_stderr() -> Iterator[IO[bytes]]:
    """Capture what C++ code writes to file descriptor 2; at the end, write all but its INFO lines there."""
    with _STDERR_LOCK, tempfile.TemporaryFile() as captured:
        try:
            saved = os.dup(2)
        except OSError:
            # Closed, as in some services.
            yield captured
            return
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
            if text := b"".join(line for line in captured if not line.startswith(b"INFO:")):
                os.write(2, text)
