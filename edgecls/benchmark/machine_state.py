"""The state of a machine at one moment: clocks, temperatures, throttling, load.

Reads /proc and /sys below a root that tests set, and asks vcgencmd on a Raspberry Pi 5. Imports no engine.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgecls.boards.cpus import CPUS, group_texts, is_int, read_text

# Raspberry Pi documentation, "vcgencmd get_throttled". The same bits 16 higher: it has happened since the board booted.
FIRMWARE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16
VCGENCMD_TIMEOUT_S = 5


@dataclass(frozen=True)
class CpuTime:
    """The use of a CPU since boot, in seconds, counted in steps of 1/100 s."""

    busy: float  # time for processes and interrupts
    steal: float  # time in which the host ran another virtual machine instead


@dataclass(frozen=True)
class State:
    """The state of a machine at one moment. What it does not report is empty or None."""

    at_s: float  # time of a monotonic clock
    governors: dict[str, str]  # CPU -> its frequency governor
    mhz: dict[str, float]  # CPU -> its frequency now
    max_mhz: dict[str, float]  # CPU -> the highest frequency that its governor may set
    celsius: dict[str, float]  # sensor -> temperature
    hot: list[str]  # sensors at or above the temperature at which their driver throttles the processor
    cooling: list[str]  # devices that throttle the processor now
    throttle_count: int | None  # how often an Intel processor throttled since boot
    firmware: int | None  # bits of the Raspberry Pi's `vcgencmd get_throttled`
    group_throttled_s: float | None  # how long the control group has waited for its CPU quota in total
    load: float | None  # mean number of runnable processes in the last minute
    on_battery: bool | None  # whether a battery, and no power supply, feeds the machine


def read_state(root: Path = Path("/")) -> State:
    """Return the state of the machine whose proc and sys are in `root`."""
    folders = {folder.parent.name: folder for folder in (root / CPUS).glob("cpu[0-9]*/cpufreq")}
    celsius, hot = _read_temperatures(root)
    load = read_text(root / "proc/loadavg").split()
    return State(
        at_s=time.monotonic(),
        governors={cpu: text for cpu, folder in folders.items() if (text := read_text(folder / "scaling_governor"))},
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
    """Return the sum of the use of these CPUs since boot; zeros if /proc/stat does not list them."""
    # Windows has neither sysconf nor /proc.
    tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = steal = 0
    for line in read_text(root / "proc/stat").splitlines():
        name, *fields = line.split()
        if name in wanted:
            # proc(5): user nice system idle iowait irq softirq steal; user includes guests.
            user, nice, system, _, _, irq, softirq, stolen = (int(field) for field in [*fields, *"00000000"][:8])
            busy, steal = busy + user + nice + system + irq + softirq, steal + stolen
    return CpuTime(busy / tick, steal / tick)


def read_mhz(cpus: Iterable[int], root: Path = Path("/")) -> list[float]:
    """Return the frequencies of these CPUs now; empty if they cannot be seen."""
    folders = {str(cpu): root / CPUS / f"cpu{cpu}/cpufreq" for cpu in cpus}
    return list(_read_mhz(folders, "scaling_cur_freq").values())


def firmware_text(bits: int) -> str:
    """Return the meaning of the low bits of `vcgencmd get_throttled`, such as "under-voltage, throttled"."""
    return ", ".join(text for bit, text in FIRMWARE_BITS.items() if bits >> bit & 1)


def _read_mhz(folders: dict[str, Path], name: str) -> dict[str, float]:
    texts = {cpu: read_text(folder / name) for cpu, folder in folders.items()}
    return {cpu: int(text) / 1000 for cpu, text in texts.items() if is_int(text)}


def _read_temperatures(root: Path) -> tuple[dict[str, float], list[str]]:
    """Return degrees by sensor, and the sensors that are too hot."""
    celsius: dict[str, float] = {}
    hot = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if not is_int(text := read_text(zone / "temp")):
            continue
        # Many machines have several zones of one type.
        name = read_text(zone / "type") or zone.name
        name = f"{name}-{zone.name.removeprefix('thermal_zone')}" if name in celsius else name
        celsius[name] = int(text) / 1000
        kinds = {file.name[: -len("type")]: read_text(file) for file in zone.glob("trip_point_*_type")}
        trips = [read_text(zone / f"{start}temp") for start, kind in kinds.items() if kind == "passive"]
        # A trip point that is not set is 0 or below.
        if any(is_int(trip) and 0 < int(trip) <= int(text) for trip in trips):
            hot.append(name)
    # Coral's PCIe driver (gasket) has no thermal zone: it halves the Edge TPU's clock at its first trip point.
    for apex in sorted((root / "sys/class/apex").glob("apex_*")):
        text, trip = read_text(apex / "temp"), read_text(apex / "trip_point0_temp")
        if is_int(text):
            celsius[apex.name] = int(text) / 1000
            hot += [apex.name] if is_int(trip) and int(trip) <= int(text) else []
    return celsius, hot


def _read_cooling(root: Path) -> list[str]:
    names = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, level = read_text(device / "type"), read_text(device / "cur_state")
        # Fans cool; these two throttle.
        if (kind == "Processor" or "cpufreq" in kind) and is_int(level) and int(level) > 0:
            names.append(kind)
    return names


def _read_throttle_count(root: Path) -> int | None:
    counts = [read_text(path) for path in (root / CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    numbers = [int(count) for count in counts if is_int(count)]
    return sum(numbers) if numbers else None


def _read_firmware(root: Path) -> int | None:
    # On a Raspberry Pi 4 or older; the kernel of the Pi 5 has no such file.
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        return int(read_text(path), 16)
    command = root / "usr/bin/vcgencmd"
    if not command.exists():
        return None
    done = subprocess.run(
        [command, "get_throttled"], capture_output=True, text=True, timeout=VCGENCMD_TIMEOUT_S, check=False
    )
    # Without permission for /dev/vcio it prints another text.
    found = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", done.stdout.strip())
    return int(found.group(1), 16) if found else None


def _read_group_throttled(root: Path) -> float | None:
    seconds = []
    for text in group_texts(root, "cpu", "cpu.stat", "cpu.stat"):
        fields = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        if "throttled_usec" in fields:
            seconds.append(int(fields["throttled_usec"]) / 1e6)
        if "throttled_time" in fields:
            seconds.append(int(fields["throttled_time"]) / 1e9)
    return sum(seconds) if seconds else None


def _read_on_battery(root: Path) -> bool | None:
    supplies = (root / "sys/class/power_supply").glob("*")
    online = [read_text(supply / "online") for supply in supplies if read_text(supply / "type") in ("Mains", "USB")]
    has_battery = any(read_text(path) == "Battery" for path in (root / "sys/class/power_supply").glob("*/type"))
    return "1" not in online if online and has_battery else None
