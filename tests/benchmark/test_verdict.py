"""Every problem is found, and a valid run has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmark_files import MACHINE, make_result, make_state, make_times
from hypothesis import given
from hypothesis import strategies as st

from edgecls.benchmark.machine_state import State
from edgecls.benchmark.verdict import judge
from edgecls.boards.rule_result import RuleResult

QUIET = {"wall_s": 5.0, "own_s": 4.95, "busy_s": 5.0, "steal_s": 0.0, "waited_s": 0.0}


def found(
    *states: State, machine: dict[str, Any] | None = None, times: Any = None, **changes: Any
) -> tuple[RuleResult, ...]:
    return judge(make_result(times, **changes), MACHINE | (machine or {}), states or (make_state(), make_state()))


def causes(*states: State, **changes: Any) -> list[str]:
    return [finding.rule for finding in found(*states, **changes) if finding.level == "no"]


def notes(*states: State, **changes: Any) -> list[str]:
    return [finding.rule for finding in found(*states, **changes) if finding.level == "note"]


def test_a_quiet_machine_has_no_problem() -> None:
    assert found() == ()


@pytest.mark.parametrize(
    ("asked", "ran"),
    [
        ({"engine": "litert", "device": "cuda", "threads": None}, {"device": "cpu"}),
        ({"engine": "openvino", "device": "cpu", "threads": None}, {"engine": "litert"}),
        ({"engine": None, "device": "cpu", "threads": 4}, {"threads": 1}),
    ],
)
def test_a_wrong_provider(asked: dict[str, Any], ran: dict[str, Any]) -> None:
    (finding,) = found(asked=asked, **ran)
    assert (finding.rule, finding.level) == ("fallback provider", "no")
    (name, value), wanted = next(iter(ran.items())), {key: each for key, each in asked.items() if each is not None}
    assert f"{name} {wanted[name]} was asked for, but {value} ran" in finding.text


def test_twice_as_many_threads_as_cpus() -> None:
    eight: dict[str, Any] = {"asked": {"threads": 8}, "threads": 8, "cpus": [0, 1, 2, 3]}
    # The threads wait for each other, not for other processes.
    waiting = {"wall_s": 5.0, "own_s": 19.9, "busy_s": 20.0, "steal_s": 0.0, "waited_s": 20.0}
    (finding,) = found(**eight, observed=waiting)
    assert (finding.rule, finding.level) == ("oversubscribed threads", "no")
    assert "8 threads on 4 CPUs" in finding.text and "--threads 4" in finding.text
    assert causes(**eight | {"threads": 4, "asked": {}}) == []


def test_more_threads_than_the_control_group_pays_for() -> None:
    two: dict[str, Any] = {
        "asked": {},
        "threads": 2,
        "cpus": [0, 1],
        "observed": QUIET | {"own_s": 9.9, "busy_s": 10.0},
    }
    assert causes(machine={"quota_cpus": 1.5}, **two) == ["oversubscribed threads"]
    assert causes(machine={"quota_cpus": 2.0}, **two) == []
    stopped = [make_state(group_throttled_s=seconds) for seconds in (1.0, 1.5)]
    assert causes(*stopped) == ["throttled"]
    assert "stopped it for 0.50 s" in found(*stopped)[0].text
    assert causes(stopped[0], stopped[0]) == []


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        ({"own_s": 2.5, "waited_s": 2.5}, "Other processes used 50 % of CPU 0. Close them and repeat."),
        ({"own_s": 4.6}, "used 8 % of CPU 0"),
        ({"waited_s": 1.0}, "waited 20 %"),
        ({"steal_s": 0.5}, "gave 10 %"),
    ],
)
def test_contention(observed: dict[str, float], said: str) -> None:
    (finding,) = found(observed=QUIET | observed)
    assert (finding.rule, finding.level) == ("contention", "no")
    assert said in finding.text


@pytest.mark.parametrize("observed", [{"own_s": 4.8}, {"waited_s": 0.2}, {"steal_s": 0.05}, {"own_s": 5.2}])
def test_interrupts_are_not_contention(observed: dict[str, float]) -> None:
    assert found(observed=QUIET | observed) == ()


def test_four_cpus_have_room_for_four_times_as_much() -> None:
    four: dict[str, Any] = {"threads": 4, "asked": {}, "cpus": [0, 1, 2, 3]}
    assert found(**four, observed=QUIET | {"own_s": 19.3, "busy_s": 20.0}) == ()
    assert causes(**four, observed=QUIET | {"own_s": 18.0, "busy_s": 20.0}) == ["contention"]


@pytest.mark.parametrize(
    ("bits", "level", "said"),
    [
        ([0, 0, 0], None, ""),
        ([0, 0x4, 0], "no", "throttled; cool"),
        ([0, 0, 0x5], "no", "under-voltage, throttled; use the board's own power supply"),
        # It is over when we look, but had not happened before.
        ([0x50000, 0x50000, 0xD0000], "no", "soft temperature limit"),
        ([0, 0x20000, 0x20000], "no", "frequency capped"),
        ([0x50000, 0x50000, 0x50000], "note", "not during the measurement: under-voltage, throttled"),
        ([None, None], None, ""),
    ],
)
def test_throttling_that_the_firmware_reports(bits: list[int | None], level: str | None, said: str) -> None:
    findings = found(*(make_state(firmware=value) for value in bits))
    assert [(finding.rule, finding.level) for finding in findings] == ([("throttled", level)] if level else [])
    assert all(said in finding.text for finding in findings)


@pytest.mark.parametrize(
    "problem",
    [
        {"hot": ["cpu-thermal"], "celsius": {"cpu-thermal": 86.0}},
        {"cooling": ["thermal-cpufreq-0"]},
        {"throttle_count": 8},
    ],
)
def test_throttling_in_the_middle_of_a_run(problem: dict[str, Any]) -> None:
    well = make_state(throttle_count=7)
    invalid = make_state(**({"throttle_count": 8} | problem))
    last = well if "throttle_count" not in problem else invalid
    (finding, *_) = found(well, invalid, replace(last, hot=[], cooling=[]))
    assert (finding.rule, finding.level) == ("throttled", "no")


def test_a_slow_clock_is_the_governors_fault_or_the_heats() -> None:
    ondemand = {f"cpu{cpu}": "ondemand" for cpu in range(4)}
    slow: dict[str, Any] = {"mhz": [600.0] * 30}
    assert causes(make_state(governors=ondemand), **slow) == ["governor"]
    assert "600 of 1500 MHz" in found(make_state(governors=ondemand), **slow)[0].text
    assert notes(make_state(governors=ondemand)) == ["governor"]
    assert causes(make_state(governors=ondemand, firmware=0x6), **slow) == ["throttled"]


def test_powersave_is_another_thing_for_drivers_that_raise_the_clock_themselves() -> None:
    powersave = make_state(governors=dict.fromkeys(("cpu0", "cpu1"), "powersave"), max_mhz={"cpu0": 4700.0})
    assert causes(powersave) == ["governor"]
    assert causes(powersave, machine={"frequency_driver": "intel_pstate"}) == []
    assert notes(powersave, machine={"frequency_driver": "intel_pstate"}) == ["governor"]


def test_only_the_cpus_in_use_count() -> None:
    state = make_state(governors={"cpu0": "performance", "cpu3": "powersave"})
    assert found(state) == ()
    assert causes(state, cpus=[3], mhz=[]) == ["governor"]


def test_a_clock_that_falls() -> None:
    assert causes(mhz=[1500.0] * 15 + [1450.0] * 15) == []
    assert causes(mhz=[1500.0] * 20 + [1000.0] * 10) == ["frequency drop"]
    assert "from 1500 to 1000 MHz" in found(mhz=[1500.0] * 20 + [1000.0] * 10)[0].text
    # One reading is none.
    assert causes(mhz=[1500.0] * 29 + [1000.0]) == []


def test_a_camera_lets_the_clock_fall() -> None:
    ondemand = make_state(governors={"cpu0": "ondemand"})
    assert found(ondemand, fps=30.0, mhz=[600.0]) == ()


@pytest.mark.parametrize(
    ("scope", "batches", "rules"),
    [("invoke", 10, []), ("invoke", 9, ["too few samples"]), ("end-to-end", 9, ["too few samples"]), ("load", 2, [])],
)
def test_too_few_samples(scope: str, batches: int, rules: list[str]) -> None:
    assert causes(times=make_times(batches=batches), scope=scope) == rules


def test_what_one_should_know() -> None:
    assert notes(warm_up={"calls": 9, "steady": False, "call_ms": 2.0}) == ["warm-up"]
    assert notes(warm_up=None) == []
    assert notes(times=make_times(noise=0.4)) == ["spread"]
    assert notes(make_state(on_battery=True)) == ["battery"]


@given(st.integers(0, 0xFFFFF), st.integers(0, 0xFFFFF))
def test_firmware_bits(before: int, after: int) -> None:
    now = (before | after) & 0xF or after >> 16 & ~(before >> 16) & 0xF
    assert (causes(make_state(firmware=before), make_state(firmware=after)) == ["throttled"]) == bool(now)


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0, 5))
def test_more_noise_is_never_less_of_a_cause(own: float, waited: float, steal: float) -> None:
    quiet = {"wall_s": 5.0, "busy_s": 5.0, "own_s": own, "waited_s": waited, "steal_s": steal}
    loud = quiet | {"own_s": own / 2, "waited_s": waited * 2, "steal_s": steal * 2}
    assert set(causes(observed=quiet)) <= set(causes(observed=loud))
