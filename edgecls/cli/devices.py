"""edgecls devices, check and doctor."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, echo, print_json

if TYPE_CHECKING:
    from edgecls.boards.profiles import Profile
    from edgecls.boards.rule_result import RuleResult

COLORS = {"ok": "green", "note": "yellow", "no": "red"}


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def devices(name: str | None, as_json: bool) -> None:
    """List the boards that edgecls knows, or show the board NAME with the source of every number.

    \b
    Examples:
      edgecls devices
      edgecls devices raspberry-pi-4b
    """
    from edgecls.boards.profiles import load_profile, load_profiles

    profiles = load_profiles() if name is None else (load_profile(name),)
    if as_json:
        documents = [asdict(profile) for profile in profiles]
        print_json(documents if name is None else documents[0])
    elif name is not None:
        print_profile(profiles[0])
    else:
        for profile in profiles:
            best = profile.recommended
            echo(f"{profile.name:26} {best.precision:5} .{best.format:7} {best.threads} threads  {profile.title}")


def print_profile(profile: Profile) -> None:
    """Print the profile of a board."""
    hardware, best = profile.hardware, profile.recommended
    memory = f"{hardware.memory_mb} MB" if hardware.memory_mb else ""
    rows = {
        "board": f"{profile.name}: {profile.title}",
        "processor": f"{hardware.soc}; {hardware.cpu}; {' '.join(hardware.isa)}",
        "memory": "; ".join(filter(None, (memory, hardware.memory_note))),
        "recommended": f"{best.precision} .{best.format}, {best.engine}, {best.threads} threads: {best.why}",
        "export": f"edgecls export RUN --int8 --board {profile.name}   (target {profile.export_target})",
    }
    for label, text in rows.items():
        echo(f"{label:12} {text}")
    for system in profile.systems:
        echo(f"{'system':12} {system.title}: Python {system.python}; {_installs(profile, system)}")
    for note in profile.notes:
        echo(f"{'note':12} {note}")
    echo("\nPublished latencies in ms, batch size 1, measured by others:")
    for row in profile.latencies:
        echo(f"  {row.ms:8} {row.precision}, threads: {row.threads}, {row.runtime}, {row.model}")
        echo(f"{'':11}{row.source}")
    echo("\nSources of the other numbers:")
    for source in (*hardware.sources, *best.sources, *(system.source for system in profile.systems)):
        echo(f"  {source}")


def _installs(profile: Profile, system: Any) -> str:
    from edgecls.boards.profiles import EXTRAS, GPU_PACKAGE, find_wheel

    wheels = [w for p in EXTRAS if (p != GPU_PACKAGE or profile.accelerator == "cuda") and (w := find_wheel(p, system))]
    return ", ".join(f"{wheel.package} {wheel.version}" for wheel in wheels) or "no engine on PyPI"


@click.command()
@click.argument("file", type=PATH)
@click.option("--board", "name", help="Board; 'edgecls devices' lists them.  [required]")
@click.option("--device", "old_name", hidden=True, help="The former name of --board.")
@click.option(
    "--compile",
    "compiling",
    is_flag=True,
    help="First run the NPU's compiler: edgetpu_compiler writes NAME_edgetpu.tflite, Vela NAME_vela.tflite,"
    " torq-compile NAME.vmfb, which its simulator compares on the golden images.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def check(file: Path, name: str | None, old_name: str | None, compiling: bool, as_json: bool) -> None:
    """Check whether an exported FILE runs on a board, and show what to install there.

    Exits with 1 if it does not run.

    \b
    Examples:
      edgecls check run/export/model-int8.tflite --board raspberry-pi-4b
      edgecls check run/export/model-int8.tflite --board coral-usb --compile
      edgecls check run/export/model-int8.tflite --board nxp-imx93 --compile
    """
    from edgecls.boards.compatibility import check_graph, install_lines
    from edgecls.boards.profiles import load_profile
    from edgecls.boards.rule_result import is_yes
    from edgecls.model_file.read import check_runnable, read_graph, read_model_file

    name = old_name if name is None else name
    if name is None:
        raise click.UsageError("Missing option '--board'.")
    profile = load_profile(name)
    compiled = _compile(file, profile) if compiling else None
    # A file for a Torq NPU is no TFLite file.
    source = Path(compiled["path"]) if compiled and profile.accelerator != "torq" else file
    model = read_model_file(source)
    check_runnable(model)
    graph = read_graph(model.graph, model.format)
    findings = check_graph(graph, model.spec, len(model.graph), profile)
    if compiled and profile.accelerator == "torq":
        from edgecls.runtime.torq_simulator import compare_in_simulator

        findings = (*findings, compare_in_simulator(file))
    yes, lines = is_yes(findings), install_lines(graph, profile)
    if as_json:
        document = {"file": str(source), "board": name, "device": name, "runs": yes, "install": lines}
        print_json(document | {"compiled": compiled, "findings": [asdict(finding) for finding in findings]})
    else:
        _print_check(source, profile, findings, compiled)
    if not yes:
        raise click.ClickException(f"{source.name} does not run on {name}: {_failed_rules(findings)}")


def _compile(file: Path, profile: Profile) -> dict[str, Any]:
    from edgecls.boards import edgetpu_compiler, torq, vela

    done: edgetpu_compiler.CompiledFile | vela.VelaFile | torq.TorqFile
    if profile.accelerator == "edgetpu":
        done = edgetpu_compiler.compile_file(file)
    elif profile.npu:
        done = vela.compile_for_npu(file, profile)
    elif profile.accelerator == "torq":
        done = torq.compile_for_torq(file)
    else:
        raise click.UsageError(
            f"--compile needs an Edge TPU, an Ethos-U or a Torq NPU; {profile.name} has none of them"
        )
    return {"path": str(done.path), "cpu_layers": list(done.cpu_layers), "report": asdict(done.report)}


def _print_check(
    file: Path, profile: Profile, findings: tuple[RuleResult, ...], compiled: dict[str, Any] | None
) -> None:
    from edgecls.boards.rule_result import is_yes

    _print_findings(findings)
    if compiled:
        _print_compiled(compiled)
    if is_yes(findings):
        echo(f"yes: {file.name} runs on {profile.title}", fg="green")
        if not compiled and (command := _compile_command(file, profile)):
            echo(f"Compile it first: {command}")


def _compile_command(file: Path, profile: Profile) -> str:
    """Return the command that compiles a file for the board's NPU, or "" if it is compiled or the board has none."""
    from edgecls.boards import edgetpu_compiler

    if file.stem.endswith(("_edgetpu", "_vela")) or profile.accelerator in ("", "cuda"):
        return ""
    if profile.accelerator == "edgetpu" and not edgetpu_compiler.find_compiler():
        return edgetpu_compiler.advice(file)
    return shlex.join(["edgecls", "check", str(file), "--board", profile.name, "--compile"])


def _print_compiled(compiled: dict[str, Any]) -> None:
    """Print the report of a compiler: where operations run, and what Vela says of memory and time."""
    report = compiled["report"]
    if "on_tpu" in report:
        echo(f"{'compiler':18} {report['on_tpu']} operations on the Edge TPU, {report['on_cpu']} on the CPU")
    elif "size_bytes" in report:
        text = "it does not say which operations run on the NPU"
        echo(f"{'compiler':18} torq-compile wrote {compiled['path']}, {report['size_bytes']:,} bytes; {text}")
    else:
        echo(f"{'compiler':18} {report['on_npu']} operations on the NPU, {report['on_cpu']} on the CPU")
        kinds = {"SRAM": report["sram_kb"], "DRAM": report["dram_kb"], "flash": report["flash_kb"]}
        echo(f"{'memory':18} {', '.join(f'{name} {size:.0f} kB' for name, size in kinds.items() if size)}")
        where = f"{report['system']} at {report['clock_mhz']:.0f} MHz, without operations on the CPU"
        echo(f"{'time':18} {report['estimate_ms']:.2f} ms, an estimate of Vela {report['version']}: {where}")
        echo(f"{'accuracy':18} that of the file before compiling; the compiled file cannot run on this machine")
    for layer in compiled["cpu_layers"]:
        echo(f"{'on the CPU':18} {layer}")


def _print_findings(findings: tuple[RuleResult, ...]) -> None:
    """Print level, rule and reason of each finding, a line each."""
    for finding in findings:
        echo(f"{finding.level:4}", nl=False, fg=COLORS[finding.level])
        echo(f" {finding.rule:14} {finding.text}")


def _failed_rules(findings: tuple[RuleResult, ...]) -> str:
    from edgecls.boards.rule_result import rules_against

    return ", ".join(rules_against(findings))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def doctor(as_json: bool) -> None:
    """Show what this machine is, which engines run on it and what is missing.

    Exits with 1 if something does not work.

    \b
    Example:
      edgecls doctor
    """
    from edgecls.boards.doctor import diagnose, find_profile
    from edgecls.boards.machine import read_machine
    from edgecls.boards.rule_result import is_yes

    machine = read_machine()
    findings, profile = diagnose(machine), find_profile(machine)
    if as_json:
        board = profile.name if profile else None
        document = {"machine": asdict(machine), "board": board, "device": board}
        print_json(document | {"works": is_yes(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        echo(f"{machine.board or machine.cpu or 'unknown processor'}, {machine.arch}, {' '.join(machine.isa)}")
        echo(f"{machine.cpus} CPUs, {machine.memory_mb} MB, Python {machine.python}, C library {machine.glibc}")
        _print_findings(findings)
        if profile:
            best = profile.recommended
            threads = min(best.threads, machine.cpus)
            echo(
                f"This is a {profile.name}: {best.precision} .{best.format} files with --threads {threads} are usually "
                "the fastest. To measure it with your network: edgecls choose RUN DATA"
            )
    if not is_yes(findings):
        raise click.ClickException(f"not everything works on this machine: {_failed_rules(findings)}")
