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


def compile_for_torq(path: Path, out: Path | None = None, options: tuple[str, ...] = ()) -> TorqFile:
    """Compile an exported TFLite file into its folder or into `out`: model-int8.tflite -> model-int8.vmfb.

    Args:
        path: of the exported file.
        out: folder of the compiled file.
        options: of the compiler, such as `SIMULATOR`.

    Raises:
        MissingDependency: a program is not installed.
        ModelFileError: `path` is not an exported TFLite file. ExportError: a program failed.
    """
    model = read_model_file(path)
    if model.format != "tflite":
        raise ModelFileError(f"{COMPILER} takes TFLite files, and {path.name} is {model.format}; use the .tflite file")
    programs = [_find(name) for name in (CONVERTER, COMPILER)]
    target = (out or path.parent) / f"{path.stem}.vmfb"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".torq-", dir=target.parent) as temporary:
        bare, text, written = (Path(temporary) / f"model.{ending}" for ending in ("tflite", "mlir", "vmfb"))
        # The converter may not expect bytes after the graph.
        bare.write_bytes(model.graph)
        _run([programs[0], str(bare), "--text", "-o", str(text)], text, path.name)
        _run([programs[1], str(text), "-o", str(written), *options], written, path.name)
        written.replace(target)
    return TorqFile(target, TorqReport(target.stat().st_size))


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
