"""Compare a benchmark with an older one, if both measured the same, and find differences beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecls.benchmark.measure import compare_runs
from edgecls.benchmark.record import BenchmarkError, Record, Result

# Two runs of one file differ by a few percent, because memory is laid out differently in each process; the bootstrap
# of one run does not include that. See benchmarks/false_alarms.py.
TOLERANCE = 0.05
# Different weights in the same network change a file's size by less.
SIZE_TOLERANCE = 0.1
MACHINE_KEYS = ("arch", "cpu", "board", "isa", "allowed_cpus", "quota_cpus")
MODEL_KEYS = ("format", "arch", "precision", "height", "width", "classes")
RESULT_KEYS = ("engine", "device", "threads", "scope", "fps")


@dataclass(frozen=True)
class SpeedComparison:
    """A result compared with an older one."""

    name: str  # of the new result
    old_p50_ms: float  # the older median
    new_p50_ms: float  # the new median
    ratio: float  # of the new median to the older one
    low: float  # lower end of the ratio's 95 % confidence interval
    high: float  # its upper end

    @property
    def verdict(self) -> str:
        """Return "slower", "faster" or "no different"."""
        return find_verdict(self.low, self.high)


def find_verdict(low: float, high: float) -> str:
    """Return "slower" or "faster" if the 95 % interval of a ratio lies beyond the tolerance, else "no different"."""
    if low > 1 + TOLERANCE:
        return "slower"
    return "faster" if high < 1 - TOLERANCE else "no different"


def compare_records(old: Record, new: Record, *, force: bool = False) -> tuple[SpeedComparison, ...]:
    """Return every result of `new` compared with that of `old`.

    Results belong together if file, engine, device and number of threads are the same, or if each record has only one.
    Files are the same by name, or by path where a record has several of one name.

    Raises:
        BenchmarkError: no two results belong together; or without `force`, machines, scopes or models differ, or a
            result is not valid.
    """
    pairs = list(_pair(old, new))
    if not pairs:
        names = ", ".join(map(old.name_of, old.results))
        raise BenchmarkError(f"nothing to compare: the old file has {names}; measure the same")
    reasons = [*_find_machine_changes(old, new)]
    for before, now in pairs:
        reasons += _find_result_changes(new.name_of(now), before, now)
    if reasons and not force:
        listed = "\n  ".join(dict.fromkeys(reasons))
        raise BenchmarkError(f"these results cannot be compared:\n  {listed}\nMeasure the same, or pass --force.")
    found = []
    for before, now in pairs:
        ratio = compare_runs(now.batches, before.batches)
        found.append(SpeedComparison(new.name_of(now), before.p50_ms, now.p50_ms, ratio.ratio, ratio.low, ratio.high))
    return tuple(found)


def unpaired(old: Record, new: Record) -> tuple[str, ...]:
    """Return the names of the new results that the old record does not have."""
    paired = [id(now) for _, now in _pair(old, new)]
    return tuple(new.name_of(result) for result in new.results if id(result) not in paired)


def _pair(old: Record, new: Record) -> Iterator[tuple[Result, Result]]:
    if len(old.results) == len(new.results) == 1:
        yield old.results[0], new.results[0]
        return
    known = {old.name_of(result): result for result in old.results}
    for result in new.results:
        if (name := new.name_of(result)) in known:
            yield known[name], result


def _find_machine_changes(old: Record, new: Record) -> Iterator[str]:
    for key in MACHINE_KEYS:
        before, now = old.machine.get(key), new.machine.get(key)
        if before != now:
            yield f"machines: {key} was {before!r}, is {now!r}"
    before, now = _governors(old), _governors(new)
    if before != now:
        yield f"machines: the governor was {', '.join(before) or 'unknown'}, is {', '.join(now) or 'unknown'}"


def _governors(record: Record) -> list[str]:
    return sorted({governor for state in record.states for governor in state["governors"].values()})


def _find_result_changes(name: str, old: Result, new: Result) -> Iterator[str]:
    for key in RESULT_KEYS:
        before, now = getattr(old, key), getattr(new, key)
        if before != now:
            yield f"{name}: {key} was {before!r}, is {now!r}"
    for key in MODEL_KEYS:
        before, now = old.model[key], new.model[key]
        if before != now:
            yield f"{name}: models: {key} was {before!r}, is {now!r}"
    before, now = old.model["bytes"], new.model["bytes"]
    if abs(now - before) > SIZE_TOLERANCE * before:
        yield f"{name}: models: the file had {before} bytes, has {now}"
    for when, result in (("old", old), ("new", new)):
        if not result.valid:
            yield f"{name}: the {when} result is not valid ({', '.join(result.causes)})"
