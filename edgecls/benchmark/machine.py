"""What a machine is, and what it does at one moment: clocks, temperatures, throttling, the load of others.

Reads /proc and /sys below a root that tests set, and asks vcgencmd on a Raspberry Pi 5. Imports no engine.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecls.doctor import read_machine

# Raspberry Pi documentation, "vcgencmd get_throttled". The same bits 16 higher: it has happened since the board booted.
FIRMWARE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16
CPUS = "sys/devices/system/cpu"
# Version 1 says so where there is no limit: the largest multiple of a page.
UNLIMITED_BYTES = 2**60
VCGENCMD_TIMEOUT_S = 5


@dataclass(frozen=True)
class CpuTime:
    """What one CPU did since boot, in seconds of 1/100 s steps.

    Attributes:
        busy: running processes and interrupts.
        steal: ready to run, while the host ran another virtual machine.
    """

    busy: float
    steal: float


@dataclass(frozen=True)
class State:
    """What a machine does at one moment. Empty, or None, is what it does not tell.

    Attributes:
        at_s: when, on a clock that only runs forward.
        governors: CPU -> its frequency governor.
        mhz: CPU -> its frequency now.
        max_mhz: CPU -> the highest frequency that its governor may set.
        celsius: sensor -> temperature.
        hot: sensors at or above the temperature from which their driver slows the processor down.
        cooling: devices that slow the processor down now.
        throttle_count: how often Intel processors slowed down since boot.
        firmware: bits of the Raspberry Pi's `vcgencmd get_throttled`.
        group_throttled_s: how long the control group waited for its CPU quota since it exists.
        load: processes that ran or wanted to, mean of the last minute.
        on_battery: whether a power supply is there and gives nothing.
    """

    at_s: float
    governors: dict[str, str]
    mhz: dict[str, float]
    max_mhz: dict[str, float]
    celsius: dict[str, float]
    hot: list[str]
    cooling: list[str]
    throttle_count: int | None
    firmware: int | None
    group_throttled_s: float | None
    load: float | None
    on_battery: bool | None


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Return what does not change while a benchmark runs: `doctor.Machine` and what limits this process.

    Added keys: `kernel`, `allowed_cpus`, `quota_cpus` and `memory_limit_mb` (None if unlimited), `frequency_driver`
    ("" if the clock cannot be seen).
    """
    drivers = {_read(folder / "scaling_driver") for folder in (root / CPUS).glob("cpu[0-9]*/cpufreq")}
    memory = filter(_is_int, _group_texts(root, "memory", "memory.max", "memory.limit_in_bytes"))
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
        capacity = _read(root / CPUS / f"cpu{cpu}/cpu_capacity")
        siblings = _parse_cpus(_read(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list"))
        return -int(capacity or 0), siblings.index(cpu) if cpu in siblings else 0, cpu

    return sorted(sorted(allowed, key=rank)[:threads])


def read_state(root: Path = Path("/")) -> State:
    """Return what the machine whose proc and sys are in `root` does now."""
    folders = {folder.parent.name: folder for folder in (root / CPUS).glob("cpu[0-9]*/cpufreq")}
    celsius, hot = _read_temperatures(root)
    load = _read(root / "proc/loadavg").split()
    return State(
        at_s=time.monotonic(),
        governors={cpu: text for cpu, folder in folders.items() if (text := _read(folder / "scaling_governor"))},
        mhz=_read_mhz(folders, "scaling_cur_freq"),
        max_mhz=_read_mhz(folders, "scaling_max_freq"),
        celsius=celsius,
        hot=hot,
        cooling=_read_cooling(root),
        throttle_count=_read_throttle_count(root),
        firmware=_read_firmware(root),
        group_throttled_s=_read_group_throttled(root),
        load=float(load[0]) if load else None,
        on_battery=_read_on_battery(root),
    )


def read_cpu_times(cpus: Iterable[int], root: Path = Path("/")) -> CpuTime:
    """Return what these CPUs did since boot, added up; zeros if /proc/stat does not tell."""
    tick = os.sysconf("SC_CLK_TCK")
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = steal = 0
    for line in _read(root / "proc/stat").splitlines():
        name, *fields = line.split()
        if name in wanted:
            # proc(5): user nice system idle iowait irq softirq steal; what guests used is part of user.
            user, nice, system, _, _, irq, softirq, stolen = (int(field) for field in [*fields, *"00000000"][:8])
            busy, steal = busy + user + nice + system + irq + softirq, steal + stolen
    return CpuTime(busy / tick, steal / tick)


def read_mhz(cpus: Iterable[int], root: Path = Path("/")) -> list[float]:
    """Return the frequencies of these CPUs now; empty if they cannot be seen."""
    folders = {str(cpu): root / CPUS / f"cpu{cpu}/cpufreq" for cpu in cpus}
    return list(_read_mhz(folders, "scaling_cur_freq").values())


def firmware_text(bits: int) -> str:
    """Return what the low bits of `vcgencmd get_throttled` say, such as "under-voltage, throttled"."""
    return ", ".join(text for bit, text in FIRMWARE_BITS.items() if bits >> bit & 1)


def _read_mhz(folders: dict[str, Path], name: str) -> dict[str, float]:
    texts = {cpu: _read(folder / name) for cpu, folder in folders.items()}
    return {cpu: int(text) / 1000 for cpu, text in texts.items() if _is_int(text)}


def _read_temperatures(root: Path) -> tuple[dict[str, float], list[str]]:
    """Return degrees by sensor, and the sensors that are too hot."""
    celsius: dict[str, float] = {}
    hot = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if not _is_int(text := _read(zone / "temp")):
            continue
        # Many machines have several zones of one type.
        name = _read(zone / "type") or zone.name
        name = f"{name}-{zone.name.removeprefix('thermal_zone')}" if name in celsius else name
        celsius[name] = int(text) / 1000
        kinds = {file.name[: -len("type")]: _read(file) for file in zone.glob("trip_point_*_type")}
        trips = [_read(zone / f"{start}temp") for start, kind in kinds.items() if kind == "passive"]
        # A trip that nobody has set is 0 or below.
        if any(_is_int(trip) and 0 < int(trip) <= int(text) for trip in trips):
            hot.append(name)
    # Coral's PCIe driver (gasket) is no thermal zone: it halves the Edge TPU's clock at its first trip point.
    for apex in sorted((root / "sys/class/apex").glob("apex_*")):
        text, trip = _read(apex / "temp"), _read(apex / "trip_point0_temp")
        if _is_int(text):
            celsius[apex.name] = int(text) / 1000
            hot += [apex.name] if _is_int(trip) and int(trip) <= int(text) else []
    return celsius, hot


def _read_cooling(root: Path) -> list[str]:
    names = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, level = _read(device / "type"), _read(device / "cur_state")
        # Fans help; these two slow down.
        if (kind == "Processor" or "cpufreq" in kind) and _is_int(level) and int(level) > 0:
            names.append(kind)
    return names


def _read_throttle_count(root: Path) -> int | None:
    counts = [_read(path) for path in (root / CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    numbers = [int(count) for count in counts if _is_int(count)]
    return sum(numbers) if numbers else None


def _read_firmware(root: Path) -> int | None:
    # Of a Pi up to the fourth; the fifth's kernel has no such file.
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        return int(_read(path), 16)
    command = root / "usr/bin/vcgencmd"
    if not command.exists():
        return None
    done = subprocess.run(
        [command, "get_throttled"], capture_output=True, text=True, timeout=VCGENCMD_TIMEOUT_S, check=False
    )
    # Without the right to use /dev/vcio it prints another sentence.
    found = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", done.stdout.strip())
    return int(found.group(1), 16) if found else None


def _read_group_throttled(root: Path) -> float | None:
    seconds = []
    for text in _group_texts(root, "cpu", "cpu.stat", "cpu.stat"):
        fields = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        if "throttled_usec" in fields:
            seconds.append(int(fields["throttled_usec"]) / 1e6)
        if "throttled_time" in fields:
            seconds.append(int(fields["throttled_time"]) / 1e9)
    return sum(seconds) if seconds else None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs' worth of time that each control group around this process may use, where it is limited."""
    texts = [text.split() for text in _group_texts(root, "cpu", "cpu.max", "")]
    texts.append([_read(root / "sys/fs/cgroup/cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    for text in texts:
        # Unlimited is "max" in version 2 and -1 in version 1.
        if len(text) == 2 and _is_int(text[0]) and int(text[0]) > 0:
            yield int(text[0]) / int(text[1])


def _group_texts(root: Path, controller: str, new: str, old: str) -> Iterator[str]:
    """Yield what the files of the control groups around this process hold: `new` of version 2, `old` of version 1."""
    groups = root / "sys/fs/cgroup"
    lines = _read(root / "proc/self/cgroup").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = groups / own.strip("/")
    files = [folder / new for folder in (group, *group.parents) if folder.is_relative_to(groups)]
    files += [groups / controller / old] if old else []
    yield from filter(None, map(_read, files))


def _read_on_battery(root: Path) -> bool | None:
    supplies = (root / "sys/class/power_supply").glob("*")
    online = [_read(supply / "online") for supply in supplies if _read(supply / "type") in ("Mains", "USB")]
    has_battery = any(_read(path) == "Battery" for path in (root / "sys/class/power_supply").glob("*/type"))
    return "1" not in online if online and has_battery else None


def _parse_cpus(text: str) -> list[int]:
    """Return the numbers of a list such as "0-3,8"."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _is_int(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _read(path: Path) -> str:
    if not os.access(path, os.R_OK) or path.is_dir():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        # A sensor that sleeps, or a clock that its driver cannot see, is a file that fails when it is read.
        return ""
