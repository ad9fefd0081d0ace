"""Which of the candidates is the fastest that may be shipped: a short round for all, a long one for the nearest few.

Nobody needs to know exactly how slow a hopeless candidate is. All times of a round are taken in turns, and rounds are
tied together by their fastest, which takes part in the next one too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecls.benchmark.measure import Ratio
from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.process import LOCAL
from edgecls.benchmark.record import Record, Result, find_ratio
from edgecls.benchmark.session import run_benchmark
from edgecls.benchmark.verdict import is_only_contention
from edgecls.choose.candidates import Candidate
from edgecls.errors import ConfigError
from edgecls.progress import Progress, silent

SHORT_SECONDS = 1.0
# The short round's interval of those that are measured again reaches within so many times the fastest one's time.
NEAR = 1.1
# More would share the machine's caches, and a good choice is among them.
MOST_CONTENDERS = 8
# A neighbour that disturbed the fastest may be gone the next time.
ATTEMPTS = 3
# A process with an engine and a network in it (check.rules.MEMORY_MB), and room for the system.
PROCESS_MB = 256
MOST_TOGETHER = 12

Measure = Callable[[Sequence[Candidate], float, str], Record]


@dataclass(frozen=True, eq=False)
class Timed:
    """A candidate with its time.

    Attributes:
        candidate: that was timed.
        result: of the longest round that it took part in.
        ratio: how many times the winner's time it takes; of the winner 1.
        is_long: False if it took part in the short round alone.
    """

    candidate: Candidate
    result: Result
    ratio: Ratio
    is_long: bool

    @property
    def is_sound(self) -> bool:
        """Return True if its time is valid, or would be but for a neighbour, who made it no shorter."""
        return is_only_contention(self.result.causes)


@dataclass(frozen=True, eq=False)
class Timing:
    """What timing came to.

    Attributes:
        timed: every candidate that was timed, the fastest first.
        winner: the fastest that may be shipped and whose time is valid, or would be valid but for contention;
            the fastest of all that may be shipped if there is none.
        record: of the last round.
    """

    timed: tuple[Timed, ...]
    winner: Timed
    record: Record

    @property
    def runner_up(self) -> Timed | None:
        """Return the next of those that the winner was held against in the long round, or None if it was alone."""
        others = [each for each in self.timed if each.is_long and each is not self.winner]
        # One that was faster, but not measured validly, did not run up.
        return next((each for each in others if each.ratio.ratio >= 1 or each.result.valid), None)


def time_candidates(
    candidates: Sequence[Candidate],
    seconds: float,
    *,
    command: Sequence[str] = LOCAL,
    progress: Progress = silent,
) -> Timing:
    """Return the times of all candidates that could be opened, and the winner.

    Args:
        candidates: one at least that may be shipped. Those rejected are timed shortly, to tell what the rule costs.
        seconds: to measure each of the nearest few, at least.
        command: starts a worker, here or on another machine.
        progress: told now and then.

    Raises:
        ConfigError: no candidate may be shipped, or seconds are out of range.
        BenchmarkError: a process ended.
    """
    opened = [candidate for candidate in candidates if candidate.threads is not None]
    if not any(_may_ship(candidate) for candidate in opened):
        raise ConfigError("no candidate may be shipped, so there is nothing to choose from")

    def measure(chosen: Sequence[Candidate], seconds: float, stage: str) -> Record:
        def tell(name: str, done: int, total: int, note: str = "", /) -> None:
            progress(f"{stage}: {name}", done, total, note)

        configurations = [Configuration(str(each.file), each.engine, each.threads, each.device) for each in chosen]
        return run_benchmark(configurations, Settings(seconds=seconds), command=command, progress=tell)

    # Out of range is said before minutes pass.
    Settings(seconds=seconds)
    short = _screen(opened, measure, min(SHORT_SECONDS, seconds))
    allowed = sorted((each for each in short if _may_ship(each.candidate)), key=lambda each: each.ratio.ratio)
    near = [each.candidate for each in allowed[2:MOST_CONTENDERS] if each.ratio.low <= NEAR]
    contenders = [*(each.candidate for each in allowed[:2]), *near]
    for _ in range(ATTEMPTS):
        record = measure(contenders, seconds, "the nearest")
        if min(record.results, key=lambda result: result.p50_ms).valid:
            break
    return _conclude(short, contenders, record)


def _may_ship(candidate: Candidate) -> bool:
    return not candidate.rejected_because


def _screen(candidates: Sequence[Candidate], measure: Measure, seconds: float) -> list[Timed]:
    """Return all candidates timed shortly, held against the fastest that may be shipped.

    As many at once as fit the memory; the fastest so far takes its turns among the next ones, so that a machine that
    slows down meanwhile slows down both.
    """
    # What may be shipped first, so that every batch has one to be held against.
    waiting = sorted(candidates, key=lambda candidate: not _may_ship(candidate))
    together = _count_together()
    timed: list[Timed] = []
    best: Candidate | None = None
    done = 0
    while done < len(waiting):
        batch = [*([best] if best else []), *waiting[done : done + together]]
        done += together
        record = measure(batch, seconds, f"all, {min(done, len(waiting))} of {len(waiting)}")
        allowed = [place for place, candidate in enumerate(batch) if _may_ship(candidate)]
        fastest = min(allowed, key=lambda place: record.results[place].p50_ms)
        if best is not None:
            factor = _ratio(record, 0, fastest).ratio
            timed = [replace(each, ratio=_scale(each.ratio, factor)) for each in timed if each.candidate != best]
        timed += _hold_against(batch, record, fastest, is_long=False)
        best = batch[fastest]
    return timed


def _conclude(short: Sequence[Timed], contenders: Sequence[Candidate], record: Record) -> Timing:
    places = range(len(contenders))
    # All take turns with a neighbour: what is the fastest in spite of it is the fastest.
    sound = [place for place in places if is_only_contention(record.results[place].causes)]
    fastest = min(sound or places, key=lambda place: record.results[place].p50_ms)
    final = _hold_against(contenders, record, fastest, is_long=True)
    # The fastest of the short round is the first contender: through it, the others are held against the winner.
    factor = _ratio(record, 0, fastest).ratio
    rest = [replace(each, ratio=_scale(each.ratio, factor)) for each in short if each.candidate not in contenders]
    timed = sorted([*final, *rest], key=lambda each: each.ratio.ratio)
    return Timing(tuple(timed), final[fastest], record)


def _hold_against(batch: Sequence[Candidate], record: Record, fastest: int, *, is_long: bool) -> list[Timed]:
    return [
        Timed(candidate, result, _ratio(record, place, fastest), is_long)
        for place, (candidate, result) in enumerate(zip(batch, record.results, strict=True))
    ]


def _ratio(record: Record, slow: int, fast: int) -> Ratio:
    # A result alone, or held against itself, has no pair.
    return find_ratio(record, slow, fast) or Ratio(1.0, 1.0, 1.0)


def _scale(ratio: Ratio, factor: float) -> Ratio:
    return Ratio(ratio.ratio * factor, ratio.low * factor, ratio.high * factor)


def _count_together() -> int:
    """Return how many candidates are in memory at once."""
    from edgecls.boards.machine import read_machine

    return min(MOST_TOGETHER, max(2, read_machine().memory_mb // PROCESS_MB - 1))


def explain_place(timed: Timed, timing: Timing) -> str:
    """Return why a candidate is not the winner; "" for the winner."""
    if timed is timing.winner:
        return ""
    if reason := timed.candidate.rejected_because:
        return reason
    ratio, result = timed.ratio, timed.result
    if timed.is_long and timing.winner.is_sound and not timed.is_sound:
        return f"its time is not valid: {', '.join(result.causes)}"
    how = "" if timed.is_long else ", in the short round"
    return f"slower: {ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the recommended one's time{how}"


def to_json(timed: Timed) -> dict[str, Any]:
    """Return the keys that timing adds to a candidate in `choose --json`."""
    result = timed.result
    return {
        "p50_ms": result.p50_ms,
        "p50_low_ms": result.p50_low_ms,
        "p50_high_ms": result.p50_high_ms,
        "n": result.n,
        "engine_version": result.engine_version,
        "ratio": timed.ratio.ratio,
        "ratio_low": timed.ratio.low,
        "ratio_high": timed.ratio.high,
        "round": "long" if timed.is_long else "short",
        "valid": result.valid,
        "warnings": result.warnings,
    }
