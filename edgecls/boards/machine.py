"""What a machine is: processor, memory, board, packages, and what limits this process. Imports no engine.

Reads /proc and /sys below a root that tests set.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecls.boards.install import this_machine
from edgecls.boards.profiles import EXTRAS
from edgecls.boards.ray_processes import find_left
from edgecls.versions import tool_versions

CPUS = "sys/devices/system/cpu"
# Version 1 says so where there is no limit: the largest multiple of a page.
UNLIMITED_BYTES = 2**60

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


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Return what does not change while a benchmark runs: `Machine` and what limits this process.

    Added keys: `kernel`, `allowed_cpus`, `quota_cpus` and `memory_limit_mb` (None if unlimited), `frequency_driver`
    ("" if the clock cannot be seen).
    """
    drivers = {read_text(folder / "scaling_driver") for folder in (root / CPUS).glob("cpu[0-9]*/cpufreq")}
    memory = filter(is_int, group_texts(root, "memory", "memory.max", "memory.limit_in_bytes"))
    limit = min((size for size in map(int, memory) if size < UNLIMITED_BYTES), default=None)
    return asdict(read_machine(root)) | {
        "kernel": platform.release(),
        "allowed_cpus": allowed_cpus(),
        "quota_cpus": min(_quotas(root), default=None),
        "memory_limit_mb": None if limit is None else limit // 2**20,
        "frequency_driver": ", ".join(sorted(drivers - {""})),
    }


def allowed_cpus() -> list[int]:
    """Return the CPUs that this process may use."""
    # macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pick_cpus(threads: int, allowed: Iterable[int], root: Path = Path("/")) -> list[int]:
    """Return the CPUs to run threads on, one each as far as they go: big cores first, no core twice before all once."""

    def rank(cpu: int) -> tuple[int, int, int]:
        capacity = read_text(root / CPUS / f"cpu{cpu}/cpu_capacity")
        siblings = _parse_cpus(read_text(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list"))
        return -int(capacity or 0), siblings.index(cpu) if cpu in siblings else 0, cpu

    return sorted(sorted(allowed, key=rank)[:threads])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs' worth of time that each control group around this process may use, where it is limited."""
    texts = [text.split() for text in group_texts(root, "cpu", "cpu.max", "")]
    texts.append([read_text(root / "sys/fs/cgroup/cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    for text in texts:
        # Unlimited is "max" in version 2 and -1 in version 1.
        if len(text) == 2 and is_int(text[0]) and int(text[0]) > 0:
            yield int(text[0]) / int(text[1])


def group_texts(root: Path, controller: str, new: str, old: str) -> Iterator[str]:
    """Yield what the files of the control groups around this process hold: `new` of version 2, `old` of version 1."""
    groups = root / "sys/fs/cgroup"
    lines = read_text(root / "proc/self/cgroup").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = groups / own.strip("/")
    files = [folder / new for folder in (group, *group.parents) if folder.is_relative_to(groups)]
    files += [groups / controller / old] if old else []
    yield from filter(None, map(read_text, files))


def _parse_cpus(text: str) -> list[int]:
    """Return the numbers of a list such as "0-3,8"."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def is_int(text: str) -> bool:
    """Return whether a text is a whole number."""
    return re.fullmatch(r"-?\d+", text) is not None


def read_text(path: Path) -> str:
    """Return what a file of /proc or /sys holds; "" if it is none that can be read."""
    if not os.access(path, os.R_OK) or path.is_dir():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        # A sensor that sleeps, or a clock that its driver cannot see, is a file that fails when it is read.
        return ""


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
    cpuinfo = _read_whole(root / "proc/cpuinfo")
    flags = set(" ".join(re.findall(r"(?mi)^(?:flags|features)\s*:(.*)$", cpuinfo)).split())
    total = re.search(r"MemTotal:\s+(\d+) kB", _read_whole(root / "proc/meminfo"))
    name = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo)
    return Machine(
        arch=this_machine(),
        kernel_arch=platform.machine(),
        cpu=name.group(1).strip() if name else "",
        isa=tuple(sorted({FEATURES[flag] for flag in flags & FEATURES.keys()})),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mb=int(total.group(1)) // 1024 if total else 0,
        board=_read_whole(root / "proc/device-tree/model").rstrip("\0\n"),
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
    return [
        f"{_read_whole(folder / 'idVendor').strip()}:{_read_whole(folder / 'idProduct').strip()}" for folder in folders
    ]


def _find_libedgetpu(root: Path) -> str:
    found = (root / folder / "libedgetpu.so.1" for folder in LIBRARY_FOLDERS)
    return next((str(path) for path in found if path.exists()), "")


def _read_whole(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
