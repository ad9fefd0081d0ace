"""Hold a benchmark against an older one: only like against like, and only what is beyond the noise counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecls.benchmark.measure import compare_runs
from edgecls.benchmark.record import BenchmarkError, Record, Result

# Two runs of one file differ by a few per cent, because memory lies elsewhere in each process; the bootstrap cannot
# see that in one run. Shown by benchmarks/false_alarms.py.
TOLERANCE = 0.05
# Other weights in the same network change a file's size by less.
SIZE_SHARE = 0.1
MACHINE_KEYS = ("arch", "cpu", "board", "isa", "allowed_cpus", "quota_cpus")
MODEL_KEYS = ("format", "arch", "precision", "height", "width", "classes")
RESULT_KEYS = ("engine", "device", "threads", "scope", "fps")


@dataclass(frozen=True)
class Comparison:
    """A result held against an older one.

    Attributes:
        name: of the new result.
        old_p50_ms: median then.
        new_p50_ms: median now.
        ratio: how many times slower it is now.
        low: lower end of the ratio's 95 % interval.
        high: upper end.
    """

    name: str
    old_p50_ms: float
    new_p50_ms: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return "slower" or "faster" if the interval lies beyond the tolerance, else "no different"."""
        return tell(self.low, self.high)


def tell(low: float, high: float) -> str:
    """Return "slower" or "faster" if the 95 % interval of a ratio lies beyond the tolerance, else "no different"."""
    if low > 1 + TOLERANCE:
        return "slower"
    return "faster" if high < 1 - TOLERANCE else "no different"


def compare_records(old: Record, new: Record, *, force: bool = False) -> tuple[Comparison, ...]:
    """Return every result of `new` that `old` has too, held against it.

    Results belong together if file name, engine, device and number of threads are the same, or if each record has but
    one.

    Args:
        old: measured before.
        new: measured now.
        force: True to compare what is unlike, or not valid.

    Raises:
        BenchmarkError: no result belongs to an old one, or machines, scopes or models are unlike, or a result is not
            valid, and `force` is not set.
    """
    pairs = list(_pair(old, new))
    if not pairs:
        names = ", ".join(result.name for result in old.results)
        raise BenchmarkError(f"nothing to compare: the old file holds {names}; measure the same")
    reasons = [*_unlike_machines(old, new)]
    for before, now in pairs:
        reasons += _unlike_results(before, now)
    if reasons and not force:
        told = "\n  ".join(dict.fromkeys(reasons))
        raise BenchmarkError(f"these cannot be compared:\n  {told}\nMeasure alike, or pass --force.")
    found = []
    for before, now in pairs:
        ratio = compare_runs(now.turns, before.turns)
        found.append(Comparison(now.name, before.p50_ms, now.p50_ms, ratio.ratio, ratio.low, ratio.high))
    return tuple(found)


def unpaired(old: Record, new: Record) -> tuple[str, ...]:
    """Return the names of the new results that the old record does not have."""
    paired = [id(now) for _, now in _pair(old, new)]
    return tuple(result.name for result in new.results if id(result) not in paired)


def _pair(old: Record, new: Record) -> Iterator[tuple[Result, Result]]:
    if len(old.results) == len(new.results) == 1:
        yield old.results[0], new.results[0]
        return
    known = {_key(result): result for result in old.results}
    for result in new.results:
        if _key(result) in known:
            yield known[_key(result)], result


def _key(result: Result) -> tuple[Any, ...]:
    return Path(result.file).name, result.engine, result.device, result.threads


def _unlike_machines(old: Record, new: Record) -> Iterator[str]:
    for key in MACHINE_KEYS:
        before, now = old.machine.get(key), new.machine.get(key)
        if before != now:
            yield f"machines: {key} was {before!r}, is {now!r}"
    before, now = _governors(old), _governors(new)
    if before != now:
        yield f"machines: the governor was {', '.join(before) or 'unknown'}, is {', '.join(now) or 'unknown'}"


def _governors(record: Record) -> list[str]:
    return sorted({governor for state in record.states for governor in state["governors"].values()})


def _unlike_results(old: Result, new: Result) -> Iterator[str]:
    for key in RESULT_KEYS:
        before, now = getattr(old, key), getattr(new, key)
        if before != now:
            yield f"{new.name}: {key} was {before!r}, is {now!r}"
    for key in MODEL_KEYS:
        before, now = old.model[key], new.model[key]
        if before != now:
            yield f"{new.name}: models: {key} was {before!r}, is {now!r}"
    before, now = old.model["bytes"], new.model["bytes"]
    if abs(now - before) > SIZE_SHARE * before:
        yield f"{new.name}: models: the file had {before} bytes, has {now}"
    for when, result in (("old", old), ("new", new)):
        if not result.valid:
            yield f"{new.name}: the {when} result is not valid ({', '.join(result.causes)})"
