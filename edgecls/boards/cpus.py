"""The CPUs that this process may use, and how many threads suit them. Imports the standard library only.

Reads /proc and /sys below a root that tests set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CPUS = "sys/devices/system/cpu"
# Small networks gain little from more, and the boards meant here have four cores.
MAX_THREADS = 4
# Cores below this fraction of the largest core's capacity are not used: on an RK3588 (four A76, four A55), four threads
# took 5.5 ms and eight, which wait for the little cores, 13.4 ms (ncnn's benchmark of MobileNetV2).
BIG_FRACTION = 0.5


def default_threads(root: Path = Path("/")) -> int:
    """Return the number of big cores that this process may use, 1 to `MAX_THREADS`, within the CPU quota."""
    return max(1, int(min(_count_big(allowed_cpus(), root), MAX_THREADS, *quotas(root))))


def allowed_cpus() -> list[int]:
    """Return the CPUs that this process may use."""
    # macOS has no such call.
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pick_cpus(threads: int, allowed: Iterable[int], root: Path = Path("/")) -> list[int]:
    """Return a CPU for each thread, as far as they go: big cores first, and no core twice before all were used."""

    def rank(cpu: int) -> tuple[int, int, int]:
        siblings = _parse_cpus(read_text(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list"))
        return -int(_capacity(cpu, root) or 0), siblings.index(cpu) if cpu in siblings else 0, cpu

    return sorted(sorted(allowed, key=rank)[:threads])


def quotas(root: Path) -> Iterator[float]:
    """Yield how many CPUs' time each control group around this process may use, where it is limited."""
    texts = [text.split() for text in group_texts(root, "cpu", "cpu.max", "")]
    texts.append([read_text(root / "sys/fs/cgroup/cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    for text in texts:
        # Unlimited is "max" in version 2 and -1 in version 1.
        if len(text) == 2 and is_int(text[0]) and int(text[0]) > 0:
            yield int(text[0]) / int(text[1])


def group_texts(root: Path, controller: str, new: str, old: str) -> Iterator[str]:
    """Yield the content of the files of the control groups around this process: `new` of version 2, `old` of 1."""
    groups = root / "sys/fs/cgroup"
    lines = read_text(root / "proc/self/cgroup").splitlines()
    # Version 2: "0::/system.slice/watch.service"; a group further up may have the lower limit.
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = groups / own.strip("/")
    files = [folder / new for folder in (group, *group.parents) if folder.is_relative_to(groups)]
    files += [groups / controller / old] if old else []
    yield from filter(None, map(read_text, files))


def is_int(text: str) -> bool:
    """Return whether a text is a whole number."""
    return re.fullmatch(r"-?\d+", text) is not None


def read_text(path: Path) -> str:
    """Return the stripped content of a file of /proc or /sys; "" if it cannot be read."""
    if not os.access(path, os.R_OK) or path.is_dir():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        # A sleeping sensor, or a clock that its driver cannot read, fails when its file is read.
        return ""


def _count_big(cpus: list[int], root: Path) -> int:
    texts = [_capacity(cpu, root) for cpu in cpus]
    # Only machines with several kinds of cores report capacities.
    if not all(text.isdigit() for text in texts):
        return len(cpus)
    capacities = [int(text) for text in texts]
    return sum(capacity >= BIG_FRACTION * max(capacities) for capacity in capacities)


def _capacity(cpu: int, root: Path) -> str:
    return read_text(root / CPUS / f"cpu{cpu}/cpu_capacity")


def _parse_cpus(text: str) -> list[int]:
    """Return the numbers of a list such as "0-3,8"."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus
