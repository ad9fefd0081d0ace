"""Runs Synaptics' compiler for the Torq NPU of the Coralboard.

The package torq-compiler[tflite] on PyPI needs Python 3.12 and a C library of 2.39 on x86-64. See its manual
(https://synaptics-torq.github.io/torq-compiler/v/latest/user-manual/model_conversion.html).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgecls.boards.compilers import describe_failure, find_program, run_compiler
from edgecls.errors import ExportError, MissingDependency, ModelFileError
from edgecls.model_file.read import read_model_file

CONVERTER, COMPILER = "tosa-converter-for-tflite", "torq-compile"
INSTALL = "pip install 'torq-compiler[tflite]' torq-runtime (Linux with Python 3.12 and a C library of 2.39 or newer)"
# Compiles for the simulator on this PC.
SIMULATOR = ("--torq-target-host-triple=native",)


@dataclass(frozen=True)
class TorqReport:
    """What is known of a compilation: the compiler does not report which operations run on the NPU."""

    size_bytes: int  # of the compiled file


@dataclass(frozen=True)
class TorqFile:
    """A file for a Torq NPU. It cannot hold metadata: they stay in the file that it was compiled from."""

    path: Path
    report: TorqReport
    cpu_layers: tuple[str, ...] = ()  # not known


def compile_for_torq(path: Path, out: Path | None = None) -> TorqFile:
    """Compile an exported TFLite file into its folder or into `out`: model-int8.tflite -> model-int8.vmfb.

    Args:
        path: of the exported file.
        out: folder of the compiled file.

    Raises:
        MissingDependency: a program is not installed.
        ModelFileError: `path` is not an exported TFLite file. ExportError: a program failed.
    """
    model = read_model_file(path)
    if model.format != "tflite":
        raise ModelFileError(f"{COMPILER} takes TFLite files, and {path.name} is {model.format}; use the .tflite file")
    target = (out or path.parent) / f"{path.stem}.vmfb"
    compile_graph(model.graph, target, path.name)
    return TorqFile(target, TorqReport(target.stat().st_size))


def compile_graph(graph: bytes, target: Path, name: str, options: tuple[str, ...] = ()) -> None:
    """Write a TFLite graph, compiled, to `target`.

    Args:
        graph: without the metadata behind it: the converter may not expect them.
        target: the .vmfb file; its folder is made.
        name: of the model, for error messages.
        options: of the compiler, such as `SIMULATOR`.

    Raises:
        MissingDependency: a program is not installed.
        ExportError: a program failed.
    """
    programs = [_find(each) for each in (CONVERTER, COMPILER)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".torq-", dir=target.parent) as temporary:
        bare, text, written = (Path(temporary) / f"model.{ending}" for ending in ("tflite", "mlir", "vmfb"))
        bare.write_bytes(graph)
        _run([programs[0], str(bare), "--text", "-o", str(text)], text, name)
        _run([programs[1], str(text), "-o", str(written), *options], written, name)
        written.replace(target)


def _find(name: str) -> str:
    """Return the path of a program; raise MissingDependency if it is not installed."""
    if (found := find_program(name)) is None:
        raise MissingDependency(f"{name} is not installed; {INSTALL}")
    return found


def _run(command: list[str], written: Path, name: str) -> None:
    """Run a program; raise ExportError if it failed or did not write its file."""
    program = Path(command[0]).name
    try:
        done = run_compiler(command, name)
    except OSError as error:
        raise ExportError(f"{program} cannot be started ({error}); {INSTALL}") from error
    if done.returncode or not written.is_file():
        raise ExportError(
            f"{program} failed on {name}: {describe_failure(done)[:500]}; run edgecls check without --compile"
        )
