"""Programs and a Python package that stand for Synaptics' Torq compiler and simulator, as its manual describes them."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

# Each copies its input to its output behind a first line, its arguments.
PROGRAM = """#!{python}
import pathlib, sys
{first}
arguments = sys.argv[1:]
out = pathlib.Path(arguments[arguments.index("-o") + 1])
rest = [each for each in arguments[1:] if each not in ("-o", str(out))]
out.write_bytes(" ".join(["{name}", *rest]).encode() + b"\\n" + pathlib.Path(arguments[0]).read_bytes())
"""
NAMES = ("tosa-converter-for-tflite", "torq-compile")


def install(patch: pytest.MonkeyPatch, folder: Path, first: str = "") -> None:
    """Put the programs in front of PATH; each begins with the line `first` of Python."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(PROGRAM.format(python=sys.executable, name=name, first=first), encoding="utf-8")
        (folder / name).chmod(0o755)
    patch.setenv("PATH", str(folder), prepend=os.pathsep)


class Runner:
    """Runs the TFLite file inside of a compiled file; what it returns is typed int8."""

    shift = 0

    def __init__(self, path: str, *, device_uri: str, torq_hw_type: str) -> None:
        assert (device_uri, torq_hw_type) == ("torq", "sim")
        compiled, converted, graph = Path(path).read_bytes().split(b"\n", 2)
        assert compiled == b"torq-compile --torq-target-host-triple=native"
        assert converted == b"tosa-converter-for-tflite --text"
        reference = OpResolverType.BUILTIN_REF
        self._interpreter = Interpreter(model_content=graph, experimental_op_resolver_type=reference)
        self._interpreter.allocate_tensors()

    def infer(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        source, *_ = self._interpreter.get_input_details()
        target, *more = self._interpreter.get_output_details()
        assert inputs[0].dtype == np.int8
        self._interpreter.set_tensor(source["index"], inputs[0].view(np.uint8))
        self._interpreter.invoke()
        scores: Any = self._interpreter.get_tensor(target["index"])
        moved = np.roll(scores, self.shift, -1)
        others = [self._interpreter.get_tensor(each["index"]) for each in more]
        return [moved.view(np.int8) if moved.dtype == np.uint8 else moved, *others]


def install_runtime(patch: pytest.MonkeyPatch, runner: type[Runner] = Runner) -> None:
    """Let `torq.runtime` be importable."""
    for name in ("torq", "torq.runtime"):
        patch.setitem(sys.modules, name, types.ModuleType(name))
    patch.setattr(sys.modules["torq.runtime"], "VMFBInferenceRunner", runner, raising=False)
