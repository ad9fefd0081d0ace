"""Runs Google's edgetpu_compiler, parses its report and adds the metadata to its output.

The compiler is a program for x86-64 Debian, and the only one that writes files for the Edge TPU. `boards.edgetpu`
predicts what it will leave to the CPU.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.boards.compilers import run_compiler
from edgecls.boards.edgetpu import COMPILED, cpu_layers
from edgecls.errors import ExportError, MissingDependency
from edgecls.model_file.read import detect_format, read_bytes, read_graph, read_model_file, read_spec
from edgecls.model_file.write import attach_spec

COMPILER = "edgetpu_compiler"
INSTALL = "https://coral.ai/docs/edgetpu/compiler/"
MAPPED = "Mapped to Edge TPU"
# Lines of a report that are not reasons for failing.
CHATTER = ("Edge TPU Compiler version", "Started a compilation timeout timer", "Compilation child process completed")


@dataclass(frozen=True)
class Operations:
    """A line of the compiler's table: how many operations of a kind, and their status."""

    op: str
    count: int
    status: str


@dataclass(frozen=True)
class CompileReport:
    """The report of edgetpu_compiler."""

    version: str  # of the compiler
    compiled: bool  # True if it succeeded
    on_tpu: int  # operations that run on the Edge TPU
    on_cpu: int  # operations left to the CPU
    subgraphs: int  # number of parts that run on the Edge TPU
    on_chip: str  # memory used for weights on the chip, as printed ("3.21MiB")
    off_chip: str  # weights sent for every image, as printed ("0.00B")
    operations: tuple[Operations, ...]  # its table; empty if it printed none
    errors: str  # its messages if it failed


@dataclass(frozen=True)
class CompiledFile:
    """A file for the Edge TPU."""

    path: Path  # of the file, with metadata
    report: CompileReport  # of the compiler
    cpu_layers: tuple[str, ...]  # layers that run on the CPU: "layer (OPERATION): the compiler's reason"


def find_compiler() -> str | None:
    """Return the path of edgetpu_compiler, or None if it is not on PATH."""
    return shutil.which(COMPILER)


def compile_command(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the command that compiles a file into a folder; -s prints the table of operations."""
    return (COMPILER, "-s", "-o", str(folder), str(path))


def advice(path: Path) -> str:
    """Return the shell commands that compile a file on another machine and add the metadata."""
    compiled = compiled_path(path)
    command = shlex.join(compile_command(path, path.parent))
    python = f"from edgecls.boards.edgetpu_compiler import add_metadata; add_metadata({str(path)!r}, {str(compiled)!r})"
    return f"{command} && python -c {shlex.quote(python)}"


def compiled_path(path: Path) -> Path:
    """Return the path that the compiler writes: model-int8.tflite -> model-int8_edgetpu.tflite."""
    return path.with_name(f"{path.stem}_edgetpu.tflite")


def is_compiled_from(compiled: Path, source: Path) -> bool:
    """Return whether a compiled file carries the metadata of this source, as `add_metadata` writes them.

    Raises:
        ModelFileError: one of them is not an exported file.
    """
    found, spec = read_spec(compiled), read_spec(source)
    return replace(found, metrics=spec.metrics, versions=spec.versions, graph_sha256=spec.graph_sha256) == spec


def compile_file(path: Path, out: Path | None = None) -> CompiledFile:
    """Compile an exported file for the Edge TPU, into its folder or into `out`, and add the metadata.

    Raises:
        MissingDependency: edgetpu_compiler is not on PATH.
        ModelFileError: `path` is not an exported file. ExportError: the compiler failed.
    """
    compiler = find_compiler()
    if compiler is None:
        where = f"install it on x86-64 Debian ({INSTALL})"
        raise MissingDependency(f"{COMPILER} is not on PATH; {where} and run: {advice(path)}")
    graph = read_model_file(path).graph
    target = (out or path.parent) / compiled_path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".edgetpu-", dir=target.parent) as temporary:
        bare = Path(temporary) / path.name
        # Without the metadata: the compiler, of 2021, may not expect bytes after the graph.
        bare.write_bytes(graph)
        report = _run(compiler, bare)
        written = compiled_path(bare)
        if not report.compiled or not written.is_file():
            reason = report.errors or "it wrote no file"
            raise ExportError(f"{COMPILER} {report.version} failed on {path.name}: {reason}; see edgecls check")
        add_metadata(path, written, report.version)
        written.replace(target)
    return CompiledFile(target, report, _name_layers(target, report))


def add_metadata(source: str | Path, compiled: str | Path, version: str = "") -> None:
    """Add the metadata of an exported file to the file compiled from it.

    The metrics stay those of `source`, and the key `measured_on` says so: the compiled file was not scored.

    Raises:
        ModelFileError: `source` is not an exported file. ExportError: `compiled` is not by edgetpu_compiler.
    """
    spec = read_spec(source)
    data = read_bytes(compiled)
    if detect_format(data) != "tflite" or COMPILED.encode() not in data:
        raise ExportError(f"{compiled} holds nothing for the Edge TPU; pass the file that {COMPILER} wrote")
    spec = replace(
        spec,
        metrics=spec.metrics | {"measured_on": Path(source).name},
        versions=spec.versions | ({COMPILER: version} if version else {}),
    )
    Path(compiled).write_bytes(attach_spec(data, spec, "tflite"))


def parse_report(text: str) -> CompileReport:
    """Return the compiler's report; counts that it does not print are 0, texts ""."""
    total = _count(text, "Total number of operations")
    on_cpu = _count(text, "Number of operations that will run on CPU")
    table = re.findall(r"^([A-Z][A-Z0-9_]+|[a-z][\w-]+-op)[ \t]+(\d+)[ \t]+(\S.*?)[ \t]*$", text, re.MULTILINE)
    compiled = "Model compiled successfully" in text
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(CHATTER)]
    return CompileReport(
        version=_value(text, r"Edge TPU Compiler version (\S+)"),
        compiled=compiled,
        # The compiler prints neither number if all operations are mapped.
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
    done = run_compiler(command, bare.name)
    return parse_report(f"{done.stdout}\n{done.stderr}")


def _name_layers(path: Path, report: CompileReport) -> tuple[str, ...]:
    reasons = {row.op: row.status for row in report.operations if row.status != MAPPED}
    left = cpu_layers(read_graph(read_model_file(path).graph, "tflite"))
    return tuple(f"{node.layer} ({node.op}): {reasons.get(node.op, 'no reason given')}" for node in left)


def _count(text: str, label: str) -> int:
    return int(_value(text, rf"{label}: (\d+)") or 0)


def _value(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""
