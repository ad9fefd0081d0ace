"""Compares a file in the simulator of Synaptics' Torq NPU with LiteRT's reference kernels, on its golden images.

The simulator is in the package torq-runtime (Python 3.12, x86-64) and takes 6 to 15 s an image. See its manual
(https://synaptics-torq.github.io/torq-compiler/v/latest/user-manual/torq_runtime.html).
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.rule_result import RuleResult
from edgecls.boards.torq import INSTALL, SIMULATOR, compile_for_torq
from edgecls.errors import MissingDependency, ModelFileError
from edgecls.model_file.read import read_model_file, read_spec
from edgecls.model_file.selftest import TOLERANCES, golden_images
from edgecls.runtime.engines import one_line
from edgecls.runtime.litert import import_interpreter

# Of a score. 60 photographs differed by 0.041 at most in torq-runtime 2.3.0, and a network of random weights by 0.06.
USUAL_DIFFERENCE = 0.05


def compare_in_simulator(path: Path) -> RuleResult:
    """Return the finding about an exported TFLite file's scores in the simulator; a note if it cannot run.

    Raises:
        ExportError: the compiler failed.
    """
    try:
        images = golden_images(read_spec(path))
        runner = _import_runner()
        wanted, output = _reference_scores(read_model_file(path).graph, images)
        with tempfile.TemporaryDirectory() as folder:
            file = compile_for_torq(path, Path(folder), SIMULATOR).path
            scores = _simulate(runner, file, images, output)
    except (MissingDependency, ModelFileError) as error:
        return RuleResult("simulator", "note", f"not run: {error}")
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


def _reference_scores(graph: bytes, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return the scores (N, C) of LiteRT's reference kernels, and what it says of the output."""
    module, _ = import_interpreter()
    reference = module.OpResolverType.BUILTIN_REF
    interpreter = module.Interpreter(model_content=graph, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scores = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None].astype(source["dtype"]))
        interpreter.invoke()
        scores.append(_dequantize(interpreter.get_tensor(target["index"])[0], target))
    return np.stack(scores), target


def _simulate(runner: Any, file: Path, images: NDArray[np.uint8], output: dict[str, Any]) -> NDArray[np.float32]:
    """Return the scores (N, C) of the simulator.

    Raises:
        ModelFileError: it fails.
    """
    scores = []
    try:
        simulator = runner(str(file), device_uri="torq", torq_hw_type="sim")
        for image in images:
            # MLIR's integers have no sign: uint8 tensors are typed int8.
            found = np.asarray(simulator.infer([image[None].view(np.int8)])[0]).reshape(-1)
            scores.append(_dequantize(found.view(output["dtype"]) if found.dtype == np.int8 else found, output))
    except Exception as error:
        # Another package's errors have types of their own.
        raise ModelFileError(f"torq-runtime failed: {one_line(error)}") from error
    return np.stack(scores)


def _dequantize(values: NDArray[Any], output: dict[str, Any]) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    scale, zero_point = output["quantization"]
    return np.asarray((values.astype(np.float32) - zero_point) * scale, np.float32)
