"""Diagnoses this machine: which board it is, what runs on it and what to install."""

from __future__ import annotations

from edgecls.boards.machine import Machine
from edgecls.boards.profiles import (
    EXTRAS,
    GPU_PACKAGE,
    Profile,
    System,
    find_wheel,
    install_line,
    load_profiles,
    version,
)
from edgecls.boards.rule_result import RuleResult


def find_profile(machine: Machine) -> Profile | None:
    """Return the profile of a machine, or None if there is none."""
    for profile in load_profiles():
        fits = machine.arch in {system.machine for system in profile.systems}
        if fits and profile.device_tree and machine.board.startswith(profile.device_tree):
            return profile
    if machine.arch != "x86_64":
        return None
    wanted = "desktop-nvidia" if machine.nvidia else "desktop-x86-vnni" if "vnni" in machine.isa else "desktop-x86"
    found = [profile for profile in load_profiles() if profile.name == wanted]
    return found[0] if "avx2" in machine.isa else None


def diagnose(machine: Machine) -> tuple[RuleResult, ...]:
    """Return what works on a machine, what does not work, and what to install."""
    checks = (_check_engines, _check_numpy, _check_system, _check_accelerators, _check_processes)
    return tuple(finding for check in checks for finding in check(machine))


def _check_engines(machine: Machine) -> list[RuleResult]:
    pair = {name: machine.packages[name] for name in ("onnxruntime", GPU_PACKAGE) if name in machine.packages}
    clashing = pair if len(pair) == 2 else {}
    findings = []
    for package, extra in EXTRAS.items():
        if package not in clashing and (found := machine.packages.get(package)):
            findings.append(RuleResult("engine", "ok", f"{package} {found} is installed (edgecls[{extra}])"))
    if clashing:
        both = " and ".join(f"{name} {found}" for name, found in clashing.items())
        remedy = (
            f"pip uninstall -y {' '.join(clashing)} && pip install 'edgecls[{'gpu' if machine.nvidia else 'onnx'}]'"
        )
        findings.append(RuleResult("engine", "no", f"{both} overwrite each other's files; {remedy}"))
    system = _system(machine)
    offered = [w for package in EXTRAS if package != GPU_PACKAGE and (w := find_wheel(package, system))]
    if not findings:
        if not offered:
            where = f"{machine.arch}, Python {machine.python}, C library {machine.glibc or 'unknown'}"
            return [RuleResult("engine", "no", f"PyPI has no engine for {where}; use Python 3.11 or a 64-bit system")]
        return [RuleResult("engine", "no", f"no engine is installed; {install_line(offered[0], system)}")]
    if "tflite-runtime" in machine.packages and "ai-edge-litert" not in machine.packages:
        if better := find_wheel("ai-edge-litert", system):
            line = install_line(better, system)
            findings.append(
                RuleResult("engine", "note", f"tflite-runtime does not use XNNPACK for int8; better: {line}")
            )
    return findings


def _check_numpy(machine: Machine) -> list[RuleResult]:
    numpy, runtime = machine.packages.get("numpy", ""), machine.packages.get("tflite-runtime")
    if not runtime or version(numpy)[:1] < (2,):
        return []
    text = f"tflite-runtime {runtime} was built for NumPy 1, but {numpy} is installed; pip install 'numpy<2'"
    if "ai-edge-litert" in machine.packages:
        return [RuleResult("numpy", "note", f"{text}, or pip uninstall tflite-runtime, as ai-edge-litert is used")]
    return [RuleResult("numpy", "no", text)]


def _check_system(machine: Machine) -> list[RuleResult]:
    findings = []
    if not machine.has_cpuinfo:
        text = "/proc/cpuinfo cannot be read: LiteRT and ONNX Runtime crash without it; mount /proc"
        findings.append(RuleResult("cpuinfo", "no", text))
    if machine.arch != machine.kernel_arch:
        text = f"a 32-bit Python on a 64-bit kernel ({machine.kernel_arch}): a 64-bit system has newer, faster engines"
        findings.append(RuleResult("python", "note", text))
    if machine.has_cpuinfo and not {"dotprod", "vnni"} & set(machine.isa):
        text = "no int8 dot product: int8 is faster in LiteRT (XNNPACK), hardly in ONNX Runtime"
        findings.append(RuleResult("int8", "note", text))
    return findings


def _check_accelerators(machine: Machine) -> list[RuleResult]:
    findings = []
    if machine.coral and not machine.libedgetpu:
        text = "there is a Coral USB Accelerator, but no libedgetpu.so.1; see: edgecls devices coral-usb"
        findings.append(RuleResult("edgetpu", "no", text))
    elif machine.coral:
        findings.append(RuleResult("edgetpu", "ok", f"Coral USB Accelerator and {machine.libedgetpu}"))
    if machine.nvidia and GPU_PACKAGE not in machine.packages:
        wheel, system = find_wheel(GPU_PACKAGE, _system(machine)), _system(machine)
        line = install_line(wheel, system) if wheel else "NVIDIA's Jetson Zoo has builds for JetPack"
        findings.append(RuleResult("gpu", "note", f"an NVIDIA driver runs, but {GPU_PACKAGE} is not installed; {line}"))
    return findings


def _check_processes(machine: Machine) -> list[RuleResult]:
    if not machine.ray_left:
        return []
    pids = " ".join(map(str, machine.ray_left))
    text = f"{len(machine.ray_left)} Ray processes outlived their edgecls. End them: kill -9 {pids}"
    return [RuleResult("ray", "note", text)]


def _system(machine: Machine) -> System:
    # All wheels are for glibc; other C libraries (musl) run none of them.
    return System("this machine", machine.arch, machine.python, machine.glibc or "0", source="this machine")
