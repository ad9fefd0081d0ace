"""What this machine is, what runs on it and what to install. Reads /proc and /sys; imports no engine."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from edgecls.check.finding import Finding
from edgecls.devices import EXTRAS, GPU_PACKAGE, Profile, System, find_wheel, install_line, load_profiles, version
from edgecls.ray_watch import find_left
from edgecls.runtime.install import this_machine
from edgecls.versions import tool_versions

# Feature in /proc/cpuinfo -> the name that profiles use.
FEATURES = {
    "asimd": "neon",
    "neon": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "avx2": "avx2",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
}
# Before and after its firmware is loaded: libedgetpu, debian/edgetpu-accelerator.rules.
CORAL_USB = ("1a6e:089a", "18d1:9302")
LIBRARY_FOLDERS = ("usr/lib", "usr/lib/aarch64-linux-gnu", "usr/lib/arm-linux-gnueabihf", "usr/lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class Machine:
    """A machine, as far as it matters for running a model.

    Attributes:
        arch: of this Python: "armv7l" for a 32-bit one on a 64-bit kernel.
        kernel_arch: as `platform.machine` says it.
        cpu: the processor's name; "" if unknown.
        isa: of `FEATURES`.
        cpus: that this process may use.
        memory_mb: all of it; 0 if unknown.
        board: /proc/device-tree/model; "" on a PC.
        python: its version.
        glibc: the C library's version; "" if it is another one.
        packages: installed packages that matter, with versions.
        has_cpuinfo: False in a sandbox that hides /proc/cpuinfo.
        coral: True if a Coral USB Accelerator is plugged in.
        libedgetpu: where the library is; "" if it is not installed.
        nvidia: True if NVIDIA's kernel driver runs.
        ray_left: PIDs of Ray processes that an edgecls started which is gone.
    """

    arch: str
    kernel_arch: str
    cpu: str
    isa: tuple[str, ...]
    cpus: int
    memory_mb: int
    board: str
    python: str
    glibc: str
    packages: dict[str, str]
    has_cpuinfo: bool
    coral: bool
    libedgetpu: str
    nvidia: bool
    ray_left: tuple[int, ...] = ()


def read_machine(root: Path = Path("/")) -> Machine:
    """Return this machine; `root` is where its proc, sys and usr are."""
    cpuinfo = _read(root / "proc/cpuinfo")
    flags = set(" ".join(re.findall(r"(?mi)^(?:flags|features)\s*:(.*)$", cpuinfo)).split())
    total = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"))
    name = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo)
    return Machine(
        arch=this_machine(),
        kernel_arch=platform.machine(),
        cpu=name.group(1).strip() if name else "",
        isa=tuple(sorted({FEATURES[flag] for flag in flags & FEATURES.keys()})),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mb=int(total.group(1)) // 1024 if total else 0,
        board=_read(root / "proc/device-tree/model").rstrip("\0\n"),
        python=platform.python_version(),
        glibc=platform.libc_ver()[1],
        packages=_without_ours(tool_versions(*EXTRAS, "numpy", "pillow", "tensorflow")),
        has_cpuinfo=bool(cpuinfo),
        coral=any(usb in CORAL_USB for usb in _usb_ids(root)),
        libedgetpu=_find_libedgetpu(root),
        nvidia=(root / "proc/driver/nvidia/version").exists(),
        ray_left=tuple(find_left(root / "proc")),
    )


def find_profile(machine: Machine) -> Profile | None:
    """Return the board that a machine is, or None if it is none that has a profile."""
    for profile in load_profiles():
        fits = machine.arch in {system.machine for system in profile.systems}
        if fits and profile.device_tree and machine.board.startswith(profile.device_tree):
            return profile
        if fits and _is_board_32bit(profile, machine):
            return profile
    if machine.arch != "x86_64":
        return None
    wanted = "desktop-nvidia" if machine.nvidia else "desktop-x86-vnni" if "vnni" in machine.isa else "desktop-x86"
    found = [profile for profile in load_profiles() if profile.name == wanted]
    return found[0] if "avx2" in machine.isa else None


def diagnose(machine: Machine) -> tuple[Finding, ...]:
    """Return what works on a machine, what does not, and what to install."""
    checks = (_check_engines, _check_numpy, _check_system, _check_accelerators, _check_processes)
    return tuple(finding for check in checks for finding in check(machine))


def _is_board_32bit(profile: Profile, machine: Machine) -> bool:
    # The 32-bit profile of a board has no tree of its own.
    parent = profile.name.removesuffix("-32bit")
    if parent == profile.name:
        return False
    return any(other.name == parent and machine.board.startswith(other.device_tree) for other in load_profiles())


def _check_engines(machine: Machine) -> list[Finding]:
    findings = []
    for package, extra in EXTRAS.items():
        if found := machine.packages.get(package):
            findings.append(Finding("engine", "ok", f"{package} {found} is installed (edgecls[{extra}])"))
    system = _system(machine)
    offered = [w for package in EXTRAS if package != GPU_PACKAGE and (w := find_wheel(package, system))]
    if not findings:
        if not offered:
            where = f"{machine.arch}, Python {machine.python}, C library {machine.glibc or 'unknown'}"
            return [Finding("engine", "no", f"PyPI has no engine for {where}; use Python 3.11 or a 64-bit system")]
        return [Finding("engine", "no", f"no engine is installed; {install_line(offered[0], system)}")]
    if "tflite-runtime" in machine.packages and "ai-edge-litert" not in machine.packages:
        if better := find_wheel("ai-edge-litert", system):
            line = install_line(better, system)
            findings.append(Finding("engine", "note", f"tflite-runtime does not use XNNPACK for int8; {line}"))
    if {"onnxruntime", GPU_PACKAGE} <= machine.packages.keys():
        text = f"onnxruntime and {GPU_PACKAGE} overwrite each other's files; pip uninstall both, install one"
        findings.append(Finding("engine", "no", text))
    return findings


def _check_numpy(machine: Machine) -> list[Finding]:
    numpy, runtime = machine.packages.get("numpy", ""), machine.packages.get("tflite-runtime")
    if not runtime or version(numpy)[:1] < (2,):
        return []
    text = f"tflite-runtime {runtime} was built for NumPy 1, here is {numpy}; pip install 'numpy<2'"
    if "ai-edge-litert" in machine.packages:
        return [Finding("numpy", "note", f"{text}, or pip uninstall tflite-runtime: ai-edge-litert is used")]
    return [Finding("numpy", "no", text)]


def _check_system(machine: Machine) -> list[Finding]:
    findings = []
    if not machine.has_cpuinfo:
        text = "/proc/cpuinfo cannot be read: LiteRT and ONNX Runtime crash without it; mount /proc"
        findings.append(Finding("cpuinfo", "no", text))
    if machine.arch != machine.kernel_arch:
        text = f"a 32-bit Python on a 64-bit kernel ({machine.kernel_arch}): a 64-bit system has newer, faster engines"
        findings.append(Finding("python", "note", text))
    if machine.has_cpuinfo and not {"dotprod", "vnni"} & set(machine.isa):
        text = "no int8 dot product: int8 gains come from LiteRT's XNNPACK, hardly from ONNX Runtime"
        findings.append(Finding("int8", "note", text))
    return findings


def _check_accelerators(machine: Machine) -> list[Finding]:
    findings = []
    if machine.coral and not machine.libedgetpu:
        text = "a Coral USB Accelerator is here, libedgetpu.so.1 is not; edgecls devices coral-usb says which one fits"
        findings.append(Finding("edgetpu", "no", text))
    elif machine.coral:
        findings.append(Finding("edgetpu", "ok", f"Coral USB Accelerator and {machine.libedgetpu}"))
    if machine.nvidia and GPU_PACKAGE not in machine.packages:
        wheel, system = find_wheel(GPU_PACKAGE, _system(machine)), _system(machine)
        line = install_line(wheel, system) if wheel else "NVIDIA's Jetson Zoo has builds for JetPack"
        findings.append(Finding("gpu", "note", f"an NVIDIA driver runs, but {GPU_PACKAGE} is not installed; {line}"))
    return findings


def _check_processes(machine: Machine) -> list[Finding]:
    if not machine.ray_left:
        return []
    pids = " ".join(map(str, machine.ray_left))
    text = f"{len(machine.ray_left)} processes of Ray are left of an edgecls that is gone. End them: kill -9 {pids}"
    return [Finding("ray", "note", text)]


def _system(machine: Machine) -> System:
    # An unknown C library (musl) takes none of the wheels, which are all for glibc.
    return System("this machine", machine.arch, machine.python, machine.glibc or "0", source="this machine")


def _without_ours(versions: dict[str, str]) -> dict[str, str]:
    return {name: found for name, found in versions.items() if name not in ("python", "edgecls")}


def _usb_ids(root: Path) -> list[str]:
    folders = (root / "sys/bus/usb/devices").glob("*")
    return [f"{_read(folder / 'idVendor').strip()}:{_read(folder / 'idProduct').strip()}" for folder in folders]


def _find_libedgetpu(root: Path) -> str:
    found = (root / folder / "libedgetpu.so.1" for folder in LIBRARY_FOLDERS)
    return next((str(path) for path in found if path.exists()), "")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
