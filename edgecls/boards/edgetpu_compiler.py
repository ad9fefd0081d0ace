"""Runs Google's edgetpu_compiler, reads its report and puts the contract into the file it wrote.

The compiler is a program for x86-64 Debian; nobody but it can make a file for the Edge TPU. `check.edgetpu` says
before what it will probably leave to the CPU.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.boards.edgetpu import COMPILED, cpu_layers
from edgecls.errors import ExportError, MissingDependency
from edgecls.model_file.container import detect_kind
from edgecls.model_file.metadata import attach_spec, read_bytes, read_spec, split_file
from edgecls.model_file.read import read_graph

COMPILER = "edgetpu_compiler"
INSTALL = "https://coral.ai/docs/edgetpu/compiler/"
MAPPED = "Mapped to Edge TPU"
# Its own limit is 180 s a try (-t).
TIMEOUT_S = 600
# What a report says besides its reasons for failing.
CHATTER = ("Edge TPU Compiler version", "Started a compilation timeout timer", "Compilation child process completed")


@dataclass(frozen=True)
class Operations:
    """A line of the compiler's table: so many operations of a kind, and what became of them."""

    op: str
    count: int
    status: str


@dataclass(frozen=True)
class CompileReport:
    """What edgetpu_compiler printed.

    Attributes:
        version: of the compiler.
        compiled: True if it wrote a file.
        on_tpu: operations that run on the Edge TPU.
        on_cpu: operations left to the CPU.
        subgraphs: parts that run on the Edge TPU.
        on_chip: memory used for weights on the chip, as printed ("3.21MiB").
        off_chip: weights sent for every image, as printed ("0.00B").
        operations: its table; empty if it printed none.
        errors: its own words if it failed.
    """

    version: str
    compiled: bool
    on_tpu: int
    on_cpu: int
    subgraphs: int
    on_chip: str
    off_chip: str
    operations: tuple[Operations, ...]
    errors: str


@dataclass(frozen=True)
class CompiledFile:
    """A file for the Edge TPU.

    Attributes:
        path: of the file, the contract in it.
        report: the compiler's.
        cpu_layers: what the CPU still runs: "layer (OPERATION): the compiler's reason".
    """

    path: Path
    report: CompileReport
    cpu_layers: tuple[str, ...]


def find_compiler() -> str | None:
    """Return the path of edgetpu_compiler, or None if it is not on PATH."""
    return shutil.which(COMPILER)


def compile_command(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the command that compiles a file into a folder: -s prints the table of operations."""
    return (COMPILER, "-s", "-o", str(folder), str(path))


def advice(path: Path) -> str:
    """Return what to type where the compiler is: the compilation, and how the contract gets into its file."""
    compiled = compiled_path(path)
    command = shlex.join(compile_command(path, path.parent))
    python = f"from edgecls.boards.edgetpu_compiler import seal; seal({str(path)!r}, {str(compiled)!r})"
    return f"{command} && python -c {shlex.quote(python)}"


def compiled_path(path: Path) -> Path:
    """Return where the compiler writes: model-int8.tflite -> model-int8_edgetpu.tflite."""
    return path.with_name(f"{path.stem}_edgetpu.tflite")


def is_compiled_from(compiled: Path, source: Path) -> bool:
    """Return whether a file of the compiler carries the contract of this very source, as `seal` puts it there.

    Raises:
        ModelFileError: one of them is no exported file.
    """
    there, spec = read_spec(compiled), read_spec(source)
    return replace(there, metrics=spec.metrics, versions=spec.versions, graph_sha256=spec.graph_sha256) == spec


def compile_file(path: Path, out: Path | None = None) -> CompiledFile:
    """Return the compiled twin of an exported file, written beside it or to the folder `out`, contract included.

    Raises:
        MissingDependency: edgetpu_compiler is not on PATH; the text holds the commands.
        ModelFileError: `path` is no exported file. ExportError: the compiler failed.
    """
    compiler = find_compiler()
    if compiler is None:
        where = f"install it on x86-64 Debian ({INSTALL})"
        raise MissingDependency(f"{COMPILER} is not on PATH; {where} and run: {advice(path)}")
    graph, _ = split_file(read_bytes(path))
    target = (out or path.parent) / compiled_path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".edgetpu-", dir=target.parent) as temporary:
        bare = Path(temporary) / path.name
        # Without the contract: a compiler of 2021 need not know of bytes behind the graph.
        bare.write_bytes(graph)
        report = _run(compiler, bare)
        written = compiled_path(bare)
        if not report.compiled or not written.is_file():
            told = report.errors or "it wrote no file"
            raise ExportError(f"{COMPILER} {report.version} failed on {path.name}: {told}; see edgecls check")
        seal(path, written, report.version)
        written.replace(target)
    return CompiledFile(target, report, _name_layers(target, report))


def seal(source: str | Path, compiled: str | Path, version: str = "") -> None:
    """Put the contract of an exported file into what the compiler made of it.

    The metrics stay those of `source`: nobody has scored the compiled file, which the contract says.

    Raises:
        ModelFileError: `source` is no exported file. ExportError: `compiled` is no file of edgetpu_compiler.
    """
    spec = read_spec(source)
    data = read_bytes(compiled)
    if detect_kind(data) != "tflite" or COMPILED.encode() not in data:
        raise ExportError(f"{compiled} holds nothing for the Edge TPU; pass the file that {COMPILER} wrote")
    spec = replace(
        spec,
        metrics=spec.metrics | {"measured_on": Path(source).name},
        versions=spec.versions | ({COMPILER: version} if version else {}),
    )
    Path(compiled).write_bytes(attach_spec(data, spec, "tflite"))


def parse_report(text: str) -> CompileReport:
    """Return what the compiler's output says; counts are 0 and texts "" where it says nothing."""
    total = _count(text, "Total number of operations")
    on_cpu = _count(text, "Number of operations that will run on CPU")
    table = re.findall(r"^([A-Z][A-Z0-9_]+|[a-z][\w-]+-op)[ \t]+(\d+)[ \t]+(\S.*?)[ \t]*$", text, re.MULTILINE)
    compiled = "Model compiled successfully" in text
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(CHATTER)]
    return CompileReport(
        version=_value(text, r"Edge TPU Compiler version (\S+)"),
        compiled=compiled,
        # Neither of the two lines is printed when all of them mapped.
        on_tpu=total - on_cpu,
        on_cpu=on_cpu,
        subgraphs=_count(text, "Number of Edge TPU subgraphs"),
        on_chip=_value(text, r"On-chip memory used for caching model parameters: (\S+)"),
        off_chip=_value(text, r"Off-chip memory used for streaming uncached model parameters: (\S+)"),
        operations=tuple(Operations(op, int(count), status) for op, count, status in table),
        errors="" if compiled else " ".join(lines),
    )


def _run(compiler: str, bare: Path) -> CompileReport:
    command = [compiler, *compile_command(bare, bare.parent)[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        text = f"{COMPILER} ran for more than {TIMEOUT_S} s on {bare.name}; try a smaller network"
        raise ExportError(text) from error
    return parse_report(f"{done.stdout}\n{done.stderr}")


def _name_layers(path: Path, report: CompileReport) -> tuple[str, ...]:
    reasons = {row.op: row.status for row in report.operations if row.status != MAPPED}
    graph, _ = split_file(read_bytes(path))
    left = cpu_layers(read_graph(graph, "tflite"))
    return tuple(f"{node.layer} ({node.op}): {reasons.get(node.op, 'no reason given')}" for node in left)


def _count(text: str, label: str) -> int:
    return int(_value(text, rf"{label}: (\d+)") or 0)


def _value(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""
