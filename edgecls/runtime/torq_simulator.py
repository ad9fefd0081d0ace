"""The Torq engine: runs TFLite graphs in the simulator of Synaptics' NPU, which takes 6 to 15 s an image.

The simulator is in the package torq-runtime (Python 3.12, x86-64). See its manual
(https://synaptics-torq.github.io/torq-compiler/v/latest/user-manual/torq_runtime.html).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.rule_result import RuleResult
from edgecls.boards.torq import INSTALL, SIMULATOR, compile_graph
from edgecls.errors import MissingDependency, ModelFileError
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import read_model_file
from edgecls.model_file.selftest import TOLERANCES, golden_images
from edgecls.runtime.engines import SIMULATORS, one_line, shaped
from edgecls.runtime.litert import LitertEngine, check_compiled, check_details, import_interpreter

# Of a score. 60 photographs differed by 0.041 at most in torq-runtime 2.3.0, and a network of random weights by 0.06.
USUAL_DIFFERENCE = 0.05


class TorqEngine:
    """A graph that is compiled for the simulator. One thread at a time runs it, others wait.

    Attributes:
        name: "torq".
        version: of the package torq-runtime.
        device: "torq-simulator".
        threads: 1; the simulator takes no number.
    """

    name = "torq"
    device = SIMULATORS[0]
    threads = 1

    def __init__(self, runner: Any, interpreter: Any, shape: tuple[int, int, int, int], folder: Any) -> None:
        self.version = _find_version()
        self._runner = runner
        self._shape = shape
        # The compiler changes neither the input nor the outputs, and its file does not tell their quantization.
        self._float_input = interpreter.get_input_details()[0]["dtype"] == np.float32
        self._outputs = interpreter.get_output_details()
        # The compiled file lives as long as its engine.
        weakref.finalize(self, folder.cleanup)
        self._lock = threading.Lock()

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""
        return self._infer(image)[0]

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores, float32 (C,), and the class activation map, float32 (h, w, C), of one image."""
        scores, heatmap = self._infer(image)
        return scores, heatmap

    def _infer(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        values = shaped(image, self._shape)
        # MLIR's integers have no sign: uint8 tensors are typed int8.
        taken = values.astype(np.float32) if self._float_input else values.view(np.int8)
        try:
            with self._lock:
                found = self._runner.infer([taken])
            return [_dequantize(np.asarray(each), output) for each, output in zip(found, self._outputs, strict=True)]
        except Exception as error:
            # Another package's errors have types of their own.
            raise ModelFileError(f"torq-runtime failed: {one_line(error)}") from error


def open_engine(graph: bytes, spec: ModelSpec, threads: int = 1, device: str = SIMULATORS[0]) -> TorqEngine:
    """Return the engine that holds this TFLite graph, which is compiled first.

    Raises:
        ConfigError: the graph is compiled for another device.
        MissingDependency: the simulator or the compiler is not installed.
        ModelFileError: LiteRT refuses the graph, or the simulator the compiled file.
        ExportError: the compiler failed.
    """
    check_compiled(graph, device)
    runner = _import_runner()
    interpreter, _ = _open_reference(graph)
    # Before the compiler, which takes its time.
    shape = check_details(interpreter.get_input_details(), interpreter.get_output_details(), spec)
    folder = tempfile.TemporaryDirectory(prefix="edgecls-torq-")
    file = Path(folder.name) / "model.vmfb"
    compile_graph(graph, file, "the model", SIMULATOR)
    try:
        opened = runner(str(file), device_uri="torq", torq_hw_type="sim")
    except Exception as error:
        raise ModelFileError(f"torq-runtime failed: {one_line(error)}") from error
    return TorqEngine(opened, interpreter, shape, folder)


def compare_in_simulator(path: Path) -> RuleResult:
    """Return how an exported TFLite file's scores of its golden images differ from those of LiteRT's reference kernels.

    It is a note if the simulator cannot run.

    Raises:
        ExportError: the compiler failed.
    """
    try:
        model = read_model_file(path)
        images = golden_images(model.spec)
        simulator = open_engine(model.graph, model.spec)
        scores = np.stack([simulator.run(image[None]) for image in images])
    except (MissingDependency, ModelFileError) as error:
        return RuleResult("simulator", "note", f"not run: {error}")
    reference = LitertEngine(*_open_reference(model.graph), model.spec)
    wanted = np.stack([reference.run(image[None]) for image in images])
    difference, same = float(np.abs(scores - wanted).max()), int((scores.argmax(1) == wanted.argmax(1)).sum())
    text = (
        f"{same} of {len(images)} golden images get the label of LiteRT's reference kernels; scores differ by at most "
        f"{difference:.3f}"
    )
    # Written so that NaN fails.
    if same < len(images) or not difference <= TOLERANCES["int8"]:
        return RuleResult("simulator", "no", f"{text}; do not use the compiled file")
    if difference > USUAL_DIFFERENCE:
        return RuleResult("simulator", "note", f"{text}; {USUAL_DIFFERENCE} is usual")
    return RuleResult("simulator", "ok", text)


def _import_runner() -> Any:
    try:
        return importlib.import_module("torq.runtime").VMFBInferenceRunner
    except (ImportError, AttributeError) as error:
        raise MissingDependency(f"torq-runtime cannot be imported ({error}); {INSTALL}") from error


def _find_version() -> str:
    try:
        return importlib.metadata.version("torq-runtime")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _open_reference(graph: bytes) -> tuple[Any, str]:
    """Return LiteRT's interpreter of a graph with its reference kernels, and its version."""
    module, version = import_interpreter()
    kernels = module.OpResolverType.BUILTIN_REF
    try:
        interpreter = module.Interpreter(model_content=graph, experimental_op_resolver_type=kernels)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelFileError(f"LiteRT {version} cannot load the graph: {one_line(error)}; re-export") from error
    return interpreter, version


def _dequantize(values: NDArray[Any], output: dict[str, Any]) -> NDArray[np.float32]:
    """Return what LiteRT would return for the first image of an output."""
    values = values.reshape(output["shape"])[0]
    if values.dtype == np.float32:
        return values
    scale, zero_point = output["quantization"]
    return np.asarray((values.view(output["dtype"]).astype(np.float32) - zero_point) * scale, np.float32)
