"""What a machine does at one moment: clocks, temperatures, throttling, the load of others.

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


def read_state(root: Path = Path("/")) -> State:
    """Return what the machine whose proc and sys are in `root` does now."""
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
    """Return what these CPUs did since boot, added up; zeros if /proc/stat does not tell."""
    tick = os.sysconf("SC_CLK_TCK")
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = steal = 0
    for line in read_text(root / "proc/stat").splitlines():
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
        # A trip that nobody has set is 0 or below.
        if any(is_int(trip) and 0 < int(trip) <= int(text) for trip in trips):
            hot.append(name)
    # Coral's PCIe driver (gasket) is no thermal zone: it halves the Edge TPU's clock at its first trip point.
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
        # Fans help; these two slow down.
        if (kind == "Processor" or "cpufreq" in kind) and is_int(level) and int(level) > 0:
            names.append(kind)
    return names


def _read_throttle_count(root: Path) -> int | None:
    counts = [read_text(path) for path in (root / CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    numbers = [int(count) for count in counts if is_int(count)]
    return sum(numbers) if numbers else None


def _read_firmware(root: Path) -> int | None:
    # Of a Pi up to the fourth; the fifth's kernel has no such file.
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        return int(read_text(path), 16)
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
