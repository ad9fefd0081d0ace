"""Whether a result is valid, and if not, why: rules on the result, its machine and the state of that machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgecls.benchmark.machine_state import SINCE_BOOT, State, firmware_text
from edgecls.benchmark.record import Result
from edgecls.boards.rule_result import RuleResult, is_yes
from edgecls.messages.numbers import percent

# Other processes used the CPUs.
CONTENTION = "contention"
# The 99th percentile of fewer is the maximum.
LEAST_SAMPLES = {"invoke": 100, "end-to-end": 100, "load": 20}
# Fraction of the CPU time that others may use. Interrupts and kernel threads use about 1 %.
OTHERS_FRACTION = 0.05
# /proc/stat counts in steps of 10 ms, so that some of ours may be counted as theirs.
OTHERS_GRACE_S = 0.05
STEAL_FRACTION = 0.02
DROP_FRACTION = 0.9
# A wider confidence interval of the median is worth a note.
WIDE_INTERVAL = 0.05
# These drivers' "powersave" raises the clock under load as others' "ondemand" does, and their highest frequency is
# that of a single busy core (kernel documentation, intel_pstate and amd-pstate).
SELF_DRIVEN = ("intel_pstate", "amd-pstate", "amd-pstate-epp")


def judge(result: Result, machine: Mapping[str, Any], states: Sequence[State]) -> tuple[RuleResult, ...]:
    """Return the problems of a result: "no" if it is not valid for that, else "note"; empty if there is none."""
    throttled = (*_check_throttled(states), *_check_quota(states))
    crowded = result.threads > len(machine["allowed_cpus"])
    findings = [*_check_provider(result), *_check_threads(result, machine), *throttled]
    findings += [*_check_contention(result.observed, result.cpus, crowded), *_check_samples(result)]
    # With a camera the clock falls in the pauses, which is part of the measurement.
    if result.fps is None:
        findings += _check_clock(result, machine, states, not is_yes(throttled))
    return (*findings, *_check_power(states))


def is_only_contention(causes: Sequence[str]) -> bool:
    """Return True if a time is valid but for contention, which can make it longer and never shorter."""
    return set(causes) <= {CONTENTION}


def judge_machine(
    observed: Mapping[str, float], cpus: Sequence[int], states: Sequence[State]
) -> tuple[RuleResult, ...]:
    """Return the problems of a machine for anything that was measured on it in that time."""
    throttled = (*_check_throttled(states), *_check_quota(states))
    return (*throttled, *_check_contention(observed, cpus, crowded=False), *_check_power(states))


def _check_provider(result: Result) -> Iterator[RuleResult]:
    used = {"engine": result.engine, "device": result.device, "threads": result.threads}
    for name, value in used.items():
        asked = result.asked.get(name)
        if asked is not None and asked != value:
            text = f"{name} {asked} was asked for, but {value} ran; install or choose what you want to measure"
            yield RuleResult("fallback provider", "no", text)


def _check_threads(result: Result, machine: Mapping[str, Any]) -> Iterator[RuleResult]:
    free, quota = len(machine["allowed_cpus"]), machine["quota_cpus"]
    if result.threads > free:
        text = f"{result.threads} threads on {free} CPUs wait for each other; use --threads {free} or fewer"
        yield RuleResult("oversubscribed threads", "no", text)
    elif quota is not None and result.threads > quota:
        text = f"{result.threads} threads, but the control group's quota is {quota:g} CPUs; use fewer, or raise it"
        yield RuleResult("oversubscribed threads", "no", text)


def _check_throttled(states: Sequence[State]) -> Iterator[RuleResult]:
    bits = [state.firmware for state in states if state.firmware is not None]
    now = 0
    for value in bits:
        now |= value | (value & ~bits[0]) >> SINCE_BOOT
    if text := firmware_text(now):
        remedy = "use the board's own power supply" if now & 1 else "cool the board"
        yield RuleResult("throttled", "no", f"the board's firmware says: {text}; {remedy} and measure again")
    elif bits and (text := firmware_text(bits[0] >> SINCE_BOOT)):
        yield RuleResult("throttled", "note", f"since the board booted, but not during the measurement: {text}")
    if hot := sorted({name for state in states for name in state.hot}):
        top = max(state.celsius[name] for state in states for name in state.hot)
        text = f"{', '.join(hot)} reached {top:.0f} °C, and the processor slows down; cool it and measure again"
        yield RuleResult("throttled", "no", text)
    if devices := sorted({name for state in states for name in state.cooling}):
        yield RuleResult("throttled", "no", f"the kernel slows the processor down ({', '.join(devices)}); cool it")
    counts = [state.throttle_count for state in states if state.throttle_count is not None]
    if counts and counts[-1] > counts[0]:
        yield RuleResult("throttled", "no", f"the processor got too hot {counts[-1] - counts[0]} times; cool it")


def _check_quota(states: Sequence[State]) -> Iterator[RuleResult]:
    paid = [state.group_throttled_s for state in states if state.group_throttled_s is not None]
    if paid and paid[-1] > paid[0]:
        text = f"the control group's CPU quota stopped it for {paid[-1] - paid[0]:.2f} s; raise the quota"
        yield RuleResult("throttled", "no", text)


def _check_contention(observed: Mapping[str, float], cpus: Sequence[int], crowded: bool) -> Iterator[RuleResult]:
    room = observed["wall_s"] * max(1, len(cpus))
    others = observed["busy_s"] - observed["own_s"]
    if cpus and others > OTHERS_FRACTION * room + OTHERS_GRACE_S:
        where = ", ".join(map(str, cpus))
        text = f"Other processes used {percent(others / room, 0)} of CPU {where}. Close them and repeat."
        yield RuleResult(CONTENTION, "no", text)
    # With too many threads, ours wait for each other.
    elif not crowded and observed["waited_s"] > OTHERS_FRACTION * room + OTHERS_GRACE_S:
        waited = percent(observed["waited_s"] / room, 0)
        text = f"The benchmark waited {waited} of the time for other processes. Close them and repeat."
        yield RuleResult(CONTENTION, "no", text)
    if observed["steal_s"] > STEAL_FRACTION * room + OTHERS_GRACE_S:
        stolen = percent(observed["steal_s"] / room, 0)
        text = f"The host gave {stolen} of the time to other virtual machines. Repeat at another time."
        yield RuleResult(CONTENTION, "no", text)


def _check_samples(result: Result) -> Iterator[RuleResult]:
    least = LEAST_SAMPLES[result.scope]
    if result.n < least:
        text = f"{result.n} samples; p90 and p99 need {least}: raise --seconds"
        yield RuleResult("too few samples", "no", text)
    if result.warm_up is not None and not result.warm_up["steady"]:
        yield RuleResult("warm-up", "note", "it still got faster at the end of the warm-up")
    width = (result.p50_high_ms - result.p50_low_ms) / result.p50_ms
    if width > WIDE_INTERVAL:
        yield RuleResult(
            "spread", "note", f"the confidence interval of p50 is {percent(width, 0)} wide; raise --seconds"
        )


def _check_clock(
    result: Result, machine: Mapping[str, Any], states: Sequence[State], throttled: bool
) -> Iterator[RuleResult]:
    governors = {text for state in states for cpu in result.cpus if (text := state.governors.get(f"cpu{cpu}"))}
    self_driven = machine["frequency_driver"] in SELF_DRIVEN
    highest = max((state.max_mhz.get(f"cpu{cpu}", 0.0) for state in states for cpu in result.cpus), default=0.0)
    named, advice = ", ".join(sorted(governors)), "set another one: cpupower frequency-set -g performance"
    usual = float(np.median(result.mhz)) if result.mhz else None
    slow = usual is not None and not self_driven and usual < DROP_FRACTION * highest
    if not self_driven and "powersave" in governors:
        yield RuleResult("governor", "no", f"the governor powersave keeps the clock low; {advice}")
    elif slow and not throttled:
        text = f"the governor {named} ran it at {usual:.0f} of {highest:.0f} MHz; {advice}"
        yield RuleResult("governor", "no", text)
    elif governors - {"performance"}:
        yield RuleResult("governor", "note", f"the governor is {named}, not performance; {advice}")
    if len(result.mhz) > 1:
        low, high = np.percentile(result.mhz, (10, 90))
        if low < DROP_FRACTION * high:
            text = f"the clock fell from {high:.0f} to {low:.0f} MHz; cool the machine, or measure longer"
            yield RuleResult("frequency drop", "no", text)


def _check_power(states: Sequence[State]) -> Iterator[RuleResult]:
    if any(state.on_battery for state in states):
        yield RuleResult("battery", "note", "it ran on battery, and many laptops are slower then")
