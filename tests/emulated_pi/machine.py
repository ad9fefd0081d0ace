"""The machines: this one, and boards under qemu's user emulation, which needs no root rights, no chroot and no boot.

Downloads stay in ${XDG_CACHE_HOME:-~/.cache}/edgecls/pi: Debian's packages (300 MB a root) and the wheels.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecls" / "pi"
SUITE, PYTHON = "bookworm", "python3.11"
APT_LINE = "sudo apt-get update && sudo apt-get install"
# Of the host; qemu-user-static and debootstrap are fetched into the cache if they are not installed.
NEEDED = {"dpkg": "dpkg", "apt-get": "apt", "wget": "wget", "gpgv": "gpgv"}
CORES = 4


@dataclass(frozen=True)
class Machine:
    """Something that runs Python.

    Attributes:
        name: what `--board` takes; "x86" is this machine, whatever its processor.
        title: for people.
        arch: Debian's name of the architecture; "" is this machine.
        qemu: the emulator.
        cpu: its name in qemu.
        part: its number in /proc/cpuinfo.
        features: likewise.
        kits: names in `kits.KITS` that install there.
    """

    name: str
    title: str
    arch: str = ""
    qemu: str = ""
    cpu: str = ""
    part: str = ""
    features: str = ""
    kits: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Return the folder that stands for / under emulation."""
        return CACHE / self.arch

    @property
    def debian_packages(self) -> Path:
        """Return where Debian's Python modules lie: pip, and on 32 bits NumPy and Pillow, which have no wheels."""
        return self.root / "usr/lib/python3/dist-packages"


HOST = Machine("x86", "this machine")
_FEATURES_64 = "fp asimd evtstrm crc32 cpuid"
_FEATURES_32 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
_WHEELS = ("litert", "litert-fp32", "onnx", "onnx-fp32", "tflite-runtime")
BOARDS = {
    board.name: board
    for board in (
        Machine("pi4", "Raspberry Pi 4", "arm64", "qemu-aarch64-static", "cortex-a72", "0xd08", _FEATURES_64, _WHEELS),
        Machine("pi3", "Raspberry Pi 3", "arm64", "qemu-aarch64-static", "cortex-a53", "0xd03", _FEATURES_64, _WHEELS),
        # qemu knows no 32-bit mode of the newer cores; this is a Pi 2's, and the instructions are the same.
        Machine(
            "pi-32bit",
            "Raspberry Pi OS, 32 bits",
            "armhf",
            "qemu-arm-static",
            "cortex-a7",
            "0xc07",
            _FEATURES_32,
            ("tflite-runtime",),
        ),
    )
}


def run(machine: Machine, arguments: Sequence[object], python_path: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Return the finished process of this machine's Python, run with the modules in `python_path` alone."""
    command = [sys.executable]
    if machine.arch:
        _write_cpu_files(machine)
        python = machine.root / "usr/bin" / PYTHON
        command = [find_tool(machine.qemu), "-L", str(machine.root), "-cpu", machine.cpu, str(python)]
    # -S: the modules of Debian, or of the environment that runs this, stay out.
    command += ["-S", *(str(argument) for argument in arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, python_path)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def prepare_root(machine: Machine) -> None:
    """Make the folder that stands for / under emulation, if it is not there yet."""
    if machine.root.is_dir():
        return
    _check_needed()
    debootstrap = find_tool("debootstrap")
    partial = machine.root.with_name(f"{machine.arch}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    include = f"{PYTHON},python3-pip,libstdc++6" + (",python3-numpy,python3-pil" if machine.arch == "armhf" else "")
    options = ["--download-only", f"--arch={machine.arch}", "--variant=minbase", f"--include={include}"]
    # Where its own functions lie, if it is not the installed one.
    scripts = {"DEBOOTSTRAP_DIR": str(CACHE / "tools/usr/share/debootstrap")} if _is_ours("debootstrap") else {}
    _print(f"fetching Debian {SUITE} for {machine.arch}: 20 seconds or more")
    # It looks at every file with programs of /usr/sbin too.
    path = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    _check_run([debootstrap, *options, SUITE, partial], os.environ | scripts | path)
    for package in sorted((partial / "var/cache/apt/archives").glob("*.deb")):
        _check_run(["dpkg", "-x", package, partial])
    shutil.rmtree(partial / "var/cache/apt")
    if machine.arch == "armhf":
        # dpkg's scripts, which do not run here, would make these links for NumPy.
        libraries = partial / "usr/lib/arm-linux-gnueabihf"
        for name in ("blas", "lapack"):
            (libraries / f"lib{name}.so.3").symlink_to(f"{name}/lib{name}.so.3")
    partial.rename(machine.root)


def find_tool(name: str) -> str:
    """Return the path of a program: the installed one, or the one that is fetched into the cache."""
    if not (_is_ours(name) or (found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"))):
        _fetch_tool("debootstrap" if name == "debootstrap" else "qemu-user-static")
        return find_tool(name)
    return str(_our_tool(name)) if _is_ours(name) else str(found)


def _our_tool(name: str) -> Path:
    return CACHE / "tools/usr" / ("sbin" if name == "debootstrap" else "bin") / name


def _is_ours(name: str) -> bool:
    return _our_tool(name).is_file()


def _fetch_tool(package: str) -> None:
    _check_needed()
    _print(f"{package} is not installed: fetching it into {CACHE}")
    folder = CACHE / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{package}_*.deb"):
        old.unlink()
    done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
    packages = list(folder.glob(f"{package}_*.deb"))
    if done.returncode or not packages:
        raise SystemExit(f"cannot fetch {package}: {done.stderr.strip()}\n{APT_LINE} {package}")
    _check_run(["dpkg", "-x", packages[0], folder])


def _check_needed() -> None:
    if missing := [package for program, package in NEEDED.items() if shutil.which(program) is None]:
        raise SystemExit(f"needs Debian or Ubuntu with {', '.join(missing)}: {APT_LINE} {' '.join(missing)}")


def _write_cpu_files(machine: Machine) -> None:
    """Describe four cores; LiteRT and ONNX Runtime read these files and crash without them."""
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {machine.features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: {8 if machine.arch == 'arm64' else 7}\nCPU variant\t: 0x0\n"
        f"CPU part\t: {machine.part}\nCPU revision\t: 3\n\n"
    )
    files = {"proc/cpuinfo": "".join(f"processor\t: {number}\n{core}" for number in range(CORES))}
    files |= {f"sys/devices/system/cpu/{name}": f"0-{CORES - 1}\n" for name in ("possible", "present")}
    for name, text in files.items():
        path = machine.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _check_run(command: Sequence[object], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
