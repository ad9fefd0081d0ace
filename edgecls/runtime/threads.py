"""How many threads an interpreter takes if nobody says. Imports the standard library alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Small networks stop gaining here, and the boards meant have four cores.
MAX_THREADS = 4
# A core of less than half the largest core's capacity is a little one: on an RK3588 (four A76, four A55), four threads
# took 5.5 ms and eight, which wait for the little cores, 13.4 ms (ncnn's benchmark of MobileNetV2).
BIG_SHARE = 0.5


def default_threads(root: Path = Path("/")) -> int:
    """Return as many threads as big cores are free for this process, 1 to `MAX_THREADS`.

    Counted are the CPUs that taskset or a container allows, no more than the control group's CPU quota pays for.

    Args:
        root: of the file system whose /sys and /proc are read.
    """
    limits = [_big_cores(_allowed_cpus(), root), MAX_THREADS, *_quotas(root)]
    return max(1, int(min(limits)))


def _allowed_cpus() -> set[int]:
    # Neither macOS nor Windows has it.
    read = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return set(read(0))


def _big_cores(cpus: set[int], root: Path) -> int:
    texts = [_read(root / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity") for cpu in cpus]
    # Only machines with cores of several kinds have to tell.
    if not all(text.isdigit() for text in texts):
        return len(cpus)
    capacities = [int(text) for text in texts]
    return sum(capacity >= BIG_SHARE * max(capacities) for capacity in capacities)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs' worth of time that each control group around this process may use, where it is limited."""
    groups = root / "sys/fs/cgroup"
    old = [_read(groups / "cpu" / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    limits = [old]
    # Version 2: "0::/system.slice/watch.service"; a group further up may be the narrower one.
    own = next((line[3:] for line in _read(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    group = groups / own.strip("/")
    limits += [_read(folder / "cpu.max").split() for folder in (group, *group.parents) if folder.is_relative_to(groups)]
    for limit in limits:
        # Unlimited is "max" in version 2 and -1 in version 1.
        if len(limit) == 2 and limit[0].isdigit():
            yield int(limit[0]) / int(limit[1])


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() if os.access(path, os.R_OK) else ""
