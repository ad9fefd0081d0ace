"""Runs Vela, Arm's compiler for Ethos-U NPUs, reads its report and adds the metadata to its output.

Vela is the package ethos-u-vela on PyPI. `boards.ethosu` predicts what it will leave to the CPU.
"""

from __future__ import annotations

import csv
import re
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.boards.compilers import describe_failure, find_program, run_compiler
from edgecls.boards.ethosu import COMPILED, cpu_nodes
from edgecls.boards.profiles import Profile, read_table
from edgecls.errors import ExportError, MissingDependency
from edgecls.model_file.read import read_graph, read_model_file, read_spec, split
from edgecls.model_file.write import attach_spec

COMPILER = "vela"
PACKAGE = "ethos-u-vela"
# In Vela's own folder of configurations.
CONFIG = "Arm/vela.ini"


@dataclass(frozen=True)
class VelaReport:
    """What Vela says about a compilation. The times and the bandwidths behind them are Vela's model, not measured."""

    version: str  # of Vela
    on_npu: int  # operations that run on the NPU, as Vela counts them
    on_cpu: int  # operations left to the CPU
    sram_kb: float  # memory on the chip, kB of 1,024 bytes
    dram_kb: float  # memory beside the chip
    flash_kb: float  # both kinds of flash
    estimate_ms: float  # of one inference without the operations on the CPU
    clock_mhz: float  # that the estimate assumes
    system: str  # Vela's name of the memory system that the estimate assumes


@dataclass(frozen=True)
class VelaFile:
    """A file for an Ethos-U."""

    path: Path  # of the file, with metadata
    report: VelaReport
    cpu_layers: tuple[str, ...]  # layers that run on the CPU: "layer (OPERATION)"


def find_vela() -> str | None:
    """Return the path of vela, from this Python's environment or from PATH, or None."""
    return find_program(COMPILER)


def vela_command(path: Path, folder: Path, profile: Profile) -> tuple[str, ...]:
    """Return the command that compiles a file into a folder for a board's NPU."""
    npu = read_table("ethosu")["npus"][profile.npu]
    chip = ("--accelerator-config", npu["accelerator"], "--system-config", npu["system"])
    memory = ("--config", CONFIG, "--memory-mode", npu["memory"])
    return (COMPILER, str(path), *chip, *memory, "--output-dir", str(folder), "--show-cpu-operations")


def vela_path(path: Path) -> Path:
    """Return the path of the compiled file: model-int8.tflite -> model-int8_vela.tflite."""
    return path.with_name(f"{path.stem}_vela.tflite")


def compile_for_npu(path: Path, profile: Profile, out: Path | None = None) -> VelaFile:
    """Compile an exported file for a board's Ethos-U, into its folder or into `out`, and add the metadata.

    Its metrics stay those of the source file, and the key `measured_on` says so: the compiled file was not scored.

    Raises:
        MissingDependency: Vela is not installed.
        ModelFileError: `path` is not an exported file. ExportError: Vela failed.
    """
    vela = find_vela()
    if vela is None:
        command = shlex.join(vela_command(path, path.parent, profile))
        raise MissingDependency(f"{COMPILER} is not installed; pip install {PACKAGE} (it would run: {command})")
    model = read_model_file(path)
    target = (out or path.parent) / vela_path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vela-", dir=target.parent) as temporary:
        folder = Path(temporary)
        bare = folder / path.name
        # Vela drops bytes after the graph.
        bare.write_bytes(model.graph)
        report = _run(vela, bare, folder, profile)
        written = vela_path(bare)
        compiled = split(written.read_bytes(), "tflite")[0]
        if COMPILED.encode() not in compiled:
            raise ExportError(
                f"{COMPILER} put no operation of {path.name} on the NPU; see edgecls check without --compile"
            )
        spec = read_spec(path)
        spec = replace(
            spec,
            metrics=spec.metrics | {"measured_on": path.name},
            versions=spec.versions | {COMPILER: report.version},
        )
        written.write_bytes(attach_spec(compiled, spec, "tflite"))
        written.replace(target)
    layers = tuple(f"{node.layer} ({node.op})" for node in cpu_nodes(read_graph(compiled, "tflite")))
    return VelaFile(target, report, layers)


def _run(vela: str, bare: Path, folder: Path, profile: Profile) -> VelaReport:
    """Return the report of compiling `bare`; raise ExportError if Vela failed."""
    command = [vela, *vela_command(bare, folder, profile)[1:]]
    done, version = run_compiler(command, bare.name), run_compiler([vela, "--version"], bare.name).stdout.strip()
    summaries = list(folder.glob("*_summary_*.csv"))
    if done.returncode or not vela_path(bare).is_file() or len(summaries) != 1:
        reason = describe_failure(done)
        raise ExportError(f"{COMPILER} {version} failed on {bare.name}: {reason}; run edgecls check without --compile")
    return parse_report(done.stdout, summaries[0].read_text(encoding="utf-8"), version)


def parse_report(text: str, summary: str, version: str) -> VelaReport:
    """Return Vela's report from what it prints and from its summary, a CSV file of one row.

    Raises:
        ExportError: a value is missing.
    """
    try:
        row = next(csv.DictReader(summary.splitlines()))
        counts = [int(_find(rf"^{kind} operators = (\d+)", text)) for kind in ("NPU", "CPU")]
        flash = float(row["on_chip_flash_memory_used"]) + float(row["off_chip_flash_memory_used"])
        return VelaReport(
            version=version,
            on_npu=counts[0],
            on_cpu=counts[1],
            sram_kb=float(row["sram_memory_used"]),
            dram_kb=float(row["dram_memory_used"]),
            flash_kb=flash,
            estimate_ms=float(row["inference_time"]) * 1000,
            clock_mhz=float(row["core_clock"]) / 1e6,
            system=row["system_config"],
        )
    except (StopIteration, KeyError, ValueError) as error:
        raise ExportError(f"the report of {COMPILER} {version} cannot be read ({error!r}); report this") from error


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no line {pattern}")
    return found.group(1)
