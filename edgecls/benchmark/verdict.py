"""Whether figures can be trusted, and if not, why: rules over one result, its machine and what that did meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgecls.benchmark.machine_state import SINCE_BOOT, State, firmware_text
from edgecls.benchmark.record import Result
from edgecls.boards.finding import Finding, is_yes

NEIGHBOUR = "noisy neighbour"
# The 99th percentile of fewer is the maximum.
LEAST_SAMPLES = {"invoke": 100, "end-to-end": 100, "load": 20}
# Share of the measured time on the CPUs that others may have. Interrupts and kernel threads take about 1 %.
OTHERS_SHARE = 0.05
# /proc/stat counts in steps of 10 ms, and one may be ours or theirs.
OTHERS_GRACE_S = 0.05
STEAL_SHARE = 0.02
DROP_SHARE = 0.9
# A median that is known no better decides little.
WIDE_INTERVAL = 0.05
# These drivers' "powersave" raises the clock under load as others' "ondemand" does, and their highest frequency is
# that of a single busy core (kernel documentation, intel_pstate and amd-pstate).
SELF_DRIVEN = ("intel_pstate", "amd-pstate", "amd-pstate-epp")


def judge(result: Result, machine: Mapping[str, Any], states: Sequence[State]) -> tuple[Finding, ...]:
    """Return what speaks against a result ("no") and what one should know of it ("note"); empty if all is well.

    Args:
        result: its own `valid`, `causes` and `warnings` do not matter.
        machine: of `machine.describe`.
        states: before, meanwhile and after.
    """
    throttled = (*_check_throttled(states), *_check_quota(states))
    crowded = result.threads > len(machine["allowed_cpus"])
    findings = [*_check_provider(result), *_check_threads(result, machine), *throttled]
    findings += [*_check_neighbours(result.observed, result.cpus, crowded), *_check_samples(result)]
    # A camera's pauses let the clock fall: that is what is measured then.
    if result.fps is None:
        findings += _check_clock(result, machine, states, not is_yes(throttled))
    return (*findings, *_check_power(states))


def is_at_worst_too_long(causes: Sequence[str]) -> bool:
    """Return True if nothing but neighbours speaks against a time: they take time away and make none shorter."""
    return set(causes) <= {NEIGHBOUR}


def judge_machine(observed: Mapping[str, float], cpus: Sequence[int], states: Sequence[State]) -> tuple[Finding, ...]:
    """Return what speaks against anything that was measured meanwhile, whatever it was, and what one should know.

    Args:
        observed: seconds: wall, own (CPU time), busy (of these CPUs), steal, waited.
        cpus: that it could run on.
        states: before, meanwhile and after.
    """
    throttled = (*_check_throttled(states), *_check_quota(states))
    return (*throttled, *_check_neighbours(observed, cpus, crowded=False), *_check_power(states))


def _check_provider(result: Result) -> Iterator[Finding]:
    used = {"engine": result.engine, "device": result.device, "threads": result.threads}
    for name, value in used.items():
        asked = result.asked.get(name)
        if asked is not None and asked != value:
            text = f"{name} {asked} was asked for, {value} ran; install or choose what you want to measure"
            yield Finding("fallback provider", "no", text)


def _check_threads(result: Result, machine: Mapping[str, Any]) -> Iterator[Finding]:
    free, quota = len(machine["allowed_cpus"]), machine["quota_cpus"]
    if result.threads > free:
        text = f"{result.threads} threads on {free} CPUs wait for each other; use --threads {free} or fewer"
        yield Finding("oversubscribed threads", "no", text)
    elif quota is not None and result.threads > quota:
        text = f"{result.threads} threads, but the control group pays for {quota:g} CPUs; use fewer, or raise its limit"
        yield Finding("oversubscribed threads", "no", text)


def _check_throttled(states: Sequence[State]) -> Iterator[Finding]:
    bits = [state.firmware for state in states if state.firmware is not None]
    now = 0
    for value in bits:
        now |= value | (value & ~bits[0]) >> SINCE_BOOT
    if text := firmware_text(now):
        remedy = "use the board's own power supply" if now & 1 else "cool the board"
        yield Finding("throttled", "no", f"the board's firmware says: {text}; {remedy} and measure again")
    elif bits and (text := firmware_text(bits[0] >> SINCE_BOOT)):
        yield Finding("throttled", "note", f"since the board booted, but not meanwhile: {text}")
    if hot := sorted({name for state in states for name in state.hot}):
        top = max(state.celsius[name] for state in states for name in state.hot)
        text = f"{', '.join(hot)} reached {top:.0f} °C, from which the processor slows down; cool it and measure again"
        yield Finding("throttled", "no", text)
    if devices := sorted({name for state in states for name in state.cooling}):
        yield Finding("throttled", "no", f"the kernel slows the processor down ({', '.join(devices)}); cool it")
    counts = [state.throttle_count for state in states if state.throttle_count is not None]
    if counts and counts[-1] > counts[0]:
        yield Finding("throttled", "no", f"the processor got too hot {counts[-1] - counts[0]} times; cool it")


def _check_quota(states: Sequence[State]) -> Iterator[Finding]:
    paid = [state.group_throttled_s for state in states if state.group_throttled_s is not None]
    if paid and paid[-1] > paid[0]:
        text = f"the control group's CPU quota stopped it for {paid[-1] - paid[0]:.2f} s; raise the quota"
        yield Finding("throttled", "no", text)


def _check_neighbours(observed: Mapping[str, float], cpus: Sequence[int], crowded: bool) -> Iterator[Finding]:
    room = observed["wall_s"] * max(1, len(cpus))
    others = observed["busy_s"] - observed["own_s"]
    if cpus and others > OTHERS_SHARE * room + OTHERS_GRACE_S:
        where = ", ".join(map(str, cpus))
        text = f"other processes took {others / room:.0%} of CPU {where}; stop them, see top, and measure again"
        yield Finding(NEIGHBOUR, "no", text)
    # Our own threads wait for each other if there are too many.
    elif not crowded and observed["waited_s"] > OTHERS_SHARE * room + OTHERS_GRACE_S:
        share = observed["waited_s"] / room
        text = f"it waited {share:.0%} of the time while others ran; stop them and measure again"
        yield Finding(NEIGHBOUR, "no", text)
    if observed["steal_s"] > STEAL_SHARE * room + OTHERS_GRACE_S:
        share = observed["steal_s"] / room
        text = f"the host gave {share:.0%} of the time to other virtual machines; measure at another hour"
        yield Finding(NEIGHBOUR, "no", text)


def _check_samples(result: Result) -> Iterator[Finding]:
    least = LEAST_SAMPLES[result.scope]
    if result.n < least:
        text = f"{result.n} samples; p90 and p99 need {least}: raise --seconds"
        yield Finding("too few samples", "no", text)
    if result.warm_up is not None and not result.warm_up["steady"]:
        yield Finding("warm-up", "note", "it still got faster when the warm-up was over")
    width = (result.p50_high_ms - result.p50_low_ms) / result.p50_ms
    if width > WIDE_INTERVAL:
        yield Finding("spread", "note", f"p50 is known to {width:.0%} only; raise --seconds")


def _check_clock(
    result: Result, machine: Mapping[str, Any], states: Sequence[State], throttled: bool
) -> Iterator[Finding]:
    governors = {text for state in states for cpu in result.cpus if (text := state.governors.get(f"cpu{cpu}"))}
    self_driven = machine["frequency_driver"] in SELF_DRIVEN
    highest = max((state.max_mhz.get(f"cpu{cpu}", 0.0) for state in states for cpu in result.cpus), default=0.0)
    named, advice = ", ".join(sorted(governors)), "set it: cpupower frequency-set -g performance"
    usual = float(np.median(result.mhz)) if result.mhz else None
    slow = usual is not None and not self_driven and usual < DROP_SHARE * highest
    if not self_driven and "powersave" in governors:
        yield Finding("governor", "no", f"governor powersave keeps the clock low; {advice}")
    elif slow and not throttled:
        text = f"governor {named} ran it at {usual:.0f} MHz of {highest:.0f}; {advice}"
        yield Finding("governor", "no", text)
    elif governors - {"performance"}:
        yield Finding("governor", "note", f"the governor is {named}, not performance; {advice}")
    if len(result.mhz) > 1:
        low, high = np.percentile(result.mhz, (10, 90))
        if low < DROP_SHARE * high:
            text = f"the clock fell from {high:.0f} to {low:.0f} MHz; cool the machine, or measure longer at the lower"
            yield Finding("frequency drop", "no", text)


def _check_power(states: Sequence[State]) -> Iterator[Finding]:
    if any(state.on_battery for state in states):
        yield Finding("battery", "note", "it ran on battery, where many laptops are slower")
