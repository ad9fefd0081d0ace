"""A machine: processor, memory, board and packages, and the limits of this process.

Reads /proc and /sys below a root that tests set.
"""

from __future__ import annotations

import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecls.boards.cpus import CPUS, allowed_cpus, group_texts, is_int, quotas, read_text
from edgecls.boards.install import this_machine
from edgecls.boards.profiles import EXTRAS
from edgecls.boards.ray_processes import find_left
from edgecls.boards.versions import tool_versions

# Version 1 of control groups has a number near 2**63 where there is no limit.
UNLIMITED_BYTES = 2**60

# Feature in /proc/cpuinfo -> its name in profiles.
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
# USB IDs before and after the firmware is loaded: libedgetpu, debian/edgetpu-accelerator.rules.
CORAL_USB = ("1a6e:089a", "18d1:9302")
LIBRARY_FOLDERS = ("usr/lib", "usr/lib/aarch64-linux-gnu", "usr/lib/arm-linux-gnueabihf", "usr/lib/x86_64-linux-gnu")


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Return `Machine` as a dict, with the limits of this process; none of it changes during a benchmark.

    Added keys: `kernel`, `allowed_cpus`, `quota_cpus` and `memory_limit_mb` (None if unlimited), `frequency_driver`
    ("" if there is none).
    """
    drivers = {read_text(folder / "scaling_driver") for folder in (root / CPUS).glob("cpu[0-9]*/cpufreq")}
    memory = filter(is_int, group_texts(root, "memory", "memory.max", "memory.limit_in_bytes"))
    limit = min((size for size in map(int, memory) if size < UNLIMITED_BYTES), default=None)
    return asdict(read_machine(root)) | {
        "kernel": platform.release(),
        "allowed_cpus": allowed_cpus(),
        "quota_cpus": min(quotas(root), default=None),
        "memory_limit_mb": None if limit is None else limit // 2**20,
        "frequency_driver": ", ".join(sorted(drivers - {""})),
    }


@dataclass(frozen=True)
class Machine:
    """What matters for running a model on a machine."""

    arch: str  # processor of this Python: "armv7l" for a 32-bit one on a 64-bit kernel
    kernel_arch: str  # `platform.machine()`
    cpu: str  # name of the processor; "" if unknown
    isa: tuple[str, ...]  # values of `FEATURES`
    cpus: int  # number of CPUs that this process may use
    memory_mb: int  # total memory; 0 if unknown
    board: str  # /proc/device-tree/model; "" on a PC
    python: str  # version
    glibc: str  # version of the C library; "" if it is not glibc
    packages: dict[str, str]  # versions of the engines and other installed packages that matter
    has_cpuinfo: bool  # False in a sandbox that hides /proc/cpuinfo
    coral: bool  # True if a Coral USB Accelerator is plugged in
    libedgetpu: str  # path of the library; "" if it is not installed
    nvidia: bool  # True if NVIDIA's kernel driver runs
    ray_left: tuple[int, ...] = ()  # PIDs of Ray processes whose edgecls has ended


def read_machine(root: Path = Path("/")) -> Machine:
    """Return this machine; `root` holds its proc, sys and usr."""
    cpuinfo = read_text(root / "proc/cpuinfo")
    flags = set(" ".join(re.findall(r"(?mi)^(?:flags|features)\s*:(.*)$", cpuinfo)).split())
    total = re.search(r"MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo"))
    name = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo)
    return Machine(
        arch=this_machine(),
        kernel_arch=platform.machine(),
        cpu=name.group(1).strip() if name else "",
        isa=tuple(sorted({FEATURES[flag] for flag in flags & FEATURES.keys()})),
        cpus=len(allowed_cpus()),
        memory_mb=int(total.group(1)) // 1024 if total else 0,
        board=read_text(root / "proc/device-tree/model"),
        python=platform.python_version(),
        glibc=platform.libc_ver()[1],
        packages=_without_ours(tool_versions(*EXTRAS, "numpy", "pillow", "tensorflow")),
        has_cpuinfo=bool(cpuinfo),
        coral=any(usb in CORAL_USB for usb in _usb_ids(root)),
        libedgetpu=_find_libedgetpu(root),
        nvidia=(root / "proc/driver/nvidia/version").exists(),
        ray_left=tuple(find_left(root / "proc")),
    )


def _without_ours(versions: dict[str, str]) -> dict[str, str]:
    return {name: found for name, found in versions.items() if name not in ("python", "edgecls")}


def _usb_ids(root: Path) -> list[str]:
    folders = (root / "sys/bus/usb/devices").glob("*")
    return [f"{read_text(folder / 'idVendor')}:{read_text(folder / 'idProduct')}" for folder in folders]


def _find_libedgetpu(root: Path) -> str:
    found = (root / folder / "libedgetpu.so.1" for folder in LIBRARY_FOLDERS)
    return next((str(path) for path in found if path.exists()), "")
