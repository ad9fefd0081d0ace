from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import machine_trees
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_trees import CONTAINER, CORAL, LAPTOP, OLD_CONTAINER, PI4, PI5, plant

from edgecls.benchmark.machine_state import CpuTime, State, firmware_text, read_cpu_times, read_mhz, read_state
from edgecls.boards.cpus import allowed_cpus, pick_cpus
from edgecls.boards.machine import describe

TREES = {"pi4": PI4, "pi5": PI5, "coral": CORAL, "laptop": LAPTOP, "container": CONTAINER, "old": OLD_CONTAINER}


def test_a_raspberry_pi_4(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, PI4))
    assert state.governors == {f"cpu{cpu}": "ondemand" for cpu in range(4)}
    assert state.mhz == state.max_mhz == {f"cpu{cpu}": 1500.0 for cpu in range(4)}
    assert (state.celsius, state.hot, state.cooling) == ({"cpu-thermal": 61.835}, [], [])
    assert (state.firmware, state.load, state.on_battery, state.throttle_count) == (0x50000, 0.42, None, None)
    assert firmware_text(0x50000) == "" and firmware_text(0x50000 >> 16) == "under-voltage, throttled"
    assert describe(tmp_path)["frequency_driver"] == "cpufreq-dt"


def test_a_raspberry_pi_5_asks_vcgencmd(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, PI5))
    assert state.firmware == 0xE0008
    assert firmware_text(state.firmware) == "soft temperature limit"
    assert firmware_text(state.firmware >> 16) == "frequency capped, throttled, soft temperature limit"
    # The fan helps, it does not slow down; an active trip is the fan's.
    assert (state.hot, state.cooling) == ([], [])


def test_vcgencmd_without_permission_reports_nothing(tmp_path: Path) -> None:
    refused = '#!/bin/sh\necho "Can\'t open device file: /dev/vcio"\nexit 255\n'
    assert read_state(plant(tmp_path, PI5 | {"usr/bin/vcgencmd": refused})).firmware is None


def test_a_coral_board_that_is_too_hot(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, CORAL))
    assert state.celsius == {"cpu-thermal": 86.0, "apex_0": 86.0}
    assert state.hot == ["cpu-thermal", "apex_0"]
    assert state.cooling == ["thermal-cpufreq-0"]
    assert (state.mhz["cpu0"], state.max_mhz["cpu0"]) == (1000, 1500)
    assert (state.firmware, state.load) == (None, None)


def test_a_coral_board_that_is_cool(tmp_path: Path) -> None:
    cool = {path: text.replace("86000", "60000") for path, text in CORAL.items()}
    cool |= machine_trees.cooling(0, "thermal-cpufreq-0", 0)
    state = read_state(plant(tmp_path, cool))
    assert (state.hot, state.cooling) == ([], [])


def test_a_laptop(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, LAPTOP))
    # Two zones of one type; trips that nobody has set.
    assert state.celsius == {"acpitz": 45.0, "x86_pkg_temp": 62.0, "acpitz-2": 20.0}
    assert (state.hot, state.cooling, state.throttle_count, state.on_battery) == ([], [], 7, True)
    description = describe(tmp_path)
    assert description["frequency_driver"] == "intel_pstate"
    assert description["cpu"] == "12th Gen Intel(R) Core(TM) i7-1260P"
    assert description["isa"] == ("avx2", "vnni")


@pytest.mark.parametrize(("online", "supply", "on_battery"), [("1", "Mains", False), ("0", "Mains", True)])
def test_power(tmp_path: Path, online: str, supply: str, on_battery: bool) -> None:
    tree = LAPTOP | {"sys/class/power_supply/AC/online": online, "sys/class/power_supply/AC/type": supply}
    assert read_state(plant(tmp_path, tree)).on_battery is on_battery


def test_a_container(tmp_path: Path) -> None:
    description, state = describe(plant(tmp_path, CONTAINER)), read_state(tmp_path)
    # The narrower of two groups.
    assert (description["quota_cpus"], description["memory_limit_mb"]) == (1.5, 1024)
    assert description["frequency_driver"] == ""
    assert (state.group_throttled_s, state.mhz, state.governors, state.celsius) == (2.5, {}, {}, {})


def test_a_container_of_version_1(tmp_path: Path) -> None:
    description, state = describe(plant(tmp_path, OLD_CONTAINER)), read_state(tmp_path)
    assert (description["quota_cpus"], description["memory_limit_mb"], state.group_throttled_s) == (0.5, None, 1.5)
    unlimited = OLD_CONTAINER | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}
    assert describe(plant(tmp_path, unlimited))["quota_cpus"] is None


@pytest.mark.parametrize("name", TREES)
def test_what_is_read_is_json(tmp_path: Path, name: str) -> None:
    state = read_state(plant(tmp_path, TREES[name]))
    assert State(**json.loads(json.dumps(asdict(state)))) == state
    assert json.loads(json.dumps(describe(tmp_path)))["kernel"]


def test_an_empty_machine_reports_nothing(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    values = {name: value for name, value in asdict(state).items() if name != "at_s"}
    assert not any(values.values())
    assert read_cpu_times([0], tmp_path) == CpuTime(0, 0)
    assert read_mhz([0], tmp_path) == []


def test_a_sensor_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, PI4)
    real = Path.read_text

    def read(path: Path, **settings: str) -> str:
        if path.name in ("temp", "scaling_cur_freq"):
            raise OSError(5, "Input/output error")
        return real(path, **settings)

    monkeypatch.setattr(Path, "read_text", read)
    state = read_state(tmp_path)
    assert (state.celsius, state.mhz, state.firmware) == ({}, {}, 0x50000)


def test_cpu_times_are_of_the_cpus_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, CONTAINER)
    tick = os.sysconf("SC_CLK_TCK")
    assert read_cpu_times([0], tmp_path) == CpuTime(165 / tick, 40 / tick)
    assert read_cpu_times([1], tmp_path) == CpuTime(265 / tick, 10 / tick)
    assert read_cpu_times([0, 1], tmp_path) == CpuTime(430 / tick, 50 / tick)
    assert read_cpu_times([7], tmp_path) == CpuTime(0, 0)


def test_frequencies_are_of_the_cpus_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, PI4 | machine_trees.cpufreq(range(1), "cpufreq-dt", "ondemand", 600_000, 1_500_000))
    assert read_mhz([0], tmp_path) == [600]
    assert read_mhz([1, 0], tmp_path) == [1500, 600]


@pytest.mark.parametrize(
    ("threads", "cpus"),
    [(1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3, 4]), (9, [*range(6)])],
)
def test_big_cores_come_first_and_none_twice_before_all_once(tmp_path: Path, threads: int, cpus: list[int]) -> None:
    assert pick_cpus(threads, range(6), plant(tmp_path, LAPTOP)) == cpus


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(1, 80))
def test_cpus_are_picked_from_those_allowed(allowed: set[int], threads: int) -> None:
    picked = pick_cpus(threads, allowed, Path("/nowhere"))
    assert picked == sorted(allowed)[:threads]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_this_machine() -> None:
    times = read_cpu_times(allowed_cpus())
    assert times.busy > 0
    assert describe()["allowed_cpus"] == sorted(os.sched_getaffinity(0))
    assert read_state().load is not None
