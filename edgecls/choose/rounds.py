"""Finds the fastest candidate that may be shipped: a short screening round for all, a long one for the finalists.

The candidates of a batch are timed in turns. The fastest of a batch is timed again in the next one, so that times of
different batches can be compared.
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

SCREENING_SECONDS = 1.0
# A candidate is a finalist if its confidence interval begins below this multiple of the fastest one's time.
NEAR = 1.1
# More would compete for the machine's caches.
MOST_FINALISTS = 8
# Contention that disturbed the fastest may be over the next time.
ATTEMPTS = 3
# Memory of a process with an engine and a network.
PROCESS_MB = 256
LARGEST_BATCH = 12

Measure = Callable[[Sequence[Candidate], float, str], Record]


@dataclass(frozen=True, eq=False)
class TimedCandidate:
    """A candidate with its time."""

    candidate: Candidate
    result: Result  # of the last round that it took part in
    ratio: Ratio  # its time divided by the winner's
    is_finalist: bool  # False if it took part in the screening round only

    @property
    def is_usable(self) -> bool:
        """True if its time is valid, or invalid only because of contention, which never makes a time shorter."""
        return is_only_contention(self.result.causes)


@dataclass(frozen=True, eq=False)
class Timing:
    """The times of all candidates."""

    timed: tuple[TimedCandidate, ...]  # every candidate that was timed, the fastest first
    winner: TimedCandidate  # the fastest finalist with a usable time, or the fastest of all finalists if none has one
    record: Record  # of the last round

    @property
    def runner_up(self) -> TimedCandidate | None:
        """The finalist after the winner, or None if there is none."""
        others = [each for each in self.timed if each.is_finalist and each is not self.winner]
        # One that was faster, but whose time is invalid, is not the runner-up.
        return next((each for each in others if each.ratio.ratio >= 1 or each.result.valid), None)


def time_candidates(
    candidates: Sequence[Candidate],
    seconds: float,
    *,
    command: Sequence[str] = LOCAL,
    progress: Progress = silent,
) -> Timing:
    """Return the times of all candidates that could be opened, and the winner.

    Rejected candidates take part in the screening round only. Each finalist is measured for `seconds` at least, in
    workers that `command` starts.

    Raises:
        ConfigError: no candidate may be shipped, or seconds are out of range.
        BenchmarkError: a process ended.
    """
    opened = [candidate for candidate in candidates if candidate.threads is not None]
    if not any(_may_ship(candidate) for candidate in opened):
        raise ConfigError("no candidate may be shipped, so there is nothing to choose from")

    def measure(chosen: Sequence[Candidate], seconds: float, stage: str) -> Record:
        def report(name: str, done: int, total: int, note: str = "", /) -> None:
            progress(f"{stage}: {name}", done, total, note)

        configurations = [Configuration(str(each.file), each.engine, each.threads, each.device) for each in chosen]
        return run_benchmark(configurations, Settings(seconds=seconds), command=command, progress=report)

    # Checked here, before minutes pass.
    Settings(seconds=seconds)
    screened = _screen(opened, measure, min(SCREENING_SECONDS, seconds))
    allowed = sorted((each for each in screened if _may_ship(each.candidate)), key=lambda each: each.ratio.ratio)
    near = [each.candidate for each in allowed[2:MOST_FINALISTS] if each.ratio.low <= NEAR]
    finalists = [*(each.candidate for each in allowed[:2]), *near]
    for _ in range(ATTEMPTS):
        record = measure(finalists, seconds, "final round")
        if min(record.results, key=lambda result: result.p50_ms).valid:
            break
    return _rank(screened, finalists, record)


def _may_ship(candidate: Candidate) -> bool:
    return not candidate.rejected_because


def _screen(candidates: Sequence[Candidate], measure: Measure, seconds: float) -> list[TimedCandidate]:
    """Return all candidates with times of the screening round, compared with the fastest that may be shipped.

    A batch has as many candidates as fit into memory, and the fastest so far: a machine that slows down meanwhile slows
    down both.
    """
    # Those that may be shipped come first, so that every batch has one to compare with.
    waiting = sorted(candidates, key=lambda candidate: not _may_ship(candidate))
    size = _batch_size()
    timed: list[TimedCandidate] = []
    best: Candidate | None = None
    done = 0
    while done < len(waiting):
        batch = [*([best] if best else []), *waiting[done : done + size]]
        done += size
        record = measure(batch, seconds, f"screening round, {min(done, len(waiting))} of {len(waiting)}")
        fastest = _fastest(record, [i for i, candidate in enumerate(batch) if _may_ship(candidate)])
        if best is not None:
            timed = _rescale([each for each in timed if each.candidate != best], record, fastest)
        timed += _compare(batch, record, fastest, is_finalist=False)
        best = batch[fastest]
    return timed


def _rank(screened: Sequence[TimedCandidate], finalists: Sequence[Candidate], record: Record) -> Timing:
    usable = [i for i, result in enumerate(record.results) if is_only_contention(result.causes)]
    fastest = _fastest(record, usable or range(len(finalists)))
    final = _compare(finalists, record, fastest, is_finalist=True)
    # The first finalist is the fastest of the screening round: through it, the others are compared with the winner.
    rest = _rescale([each for each in screened if each.candidate not in finalists], record, fastest)
    timed = sorted([*final, *rest], key=lambda each: each.ratio.ratio)
    return Timing(tuple(timed), final[fastest], record)


def _fastest(record: Record, indices: Sequence[int]) -> int:
    return min(indices, key=lambda i: record.results[i].p50_ms)


def _compare(batch: Sequence[Candidate], record: Record, fastest: int, *, is_finalist: bool) -> list[TimedCandidate]:
    return [
        TimedCandidate(candidate, result, _ratio(record, i, fastest), is_finalist)
        for i, (candidate, result) in enumerate(zip(batch, record.results, strict=True))
    ]


def _rescale(timed: Sequence[TimedCandidate], record: Record, fastest: int) -> list[TimedCandidate]:
    """Return candidates that were compared with the first one of `record`, compared with the fastest one of it."""
    factor = _ratio(record, 0, fastest).ratio
    ratios = [Ratio(each.ratio.ratio * factor, each.ratio.low * factor, each.ratio.high * factor) for each in timed]
    return [replace(each, ratio=ratio) for each, ratio in zip(timed, ratios, strict=True)]


def _ratio(record: Record, slow: int, fast: int) -> Ratio:
    # A result has no ratio to itself.
    return find_ratio(record, slow, fast) or Ratio(1.0, 1.0, 1.0)


def _batch_size() -> int:
    """Return how many candidates are in memory at once."""
    from edgecls.boards.machine import read_machine

    return min(LARGEST_BATCH, max(2, read_machine().memory_mb // PROCESS_MB - 1))


def explain_rank(timed: TimedCandidate, timing: Timing) -> str:
    """Return why a candidate is not the winner; "" for the winner."""
    if timed is timing.winner:
        return ""
    if reason := timed.candidate.rejected_because:
        return reason
    ratio, result = timed.ratio, timed.result
    if timed.is_finalist and timing.winner.is_usable and not timed.is_usable:
        return f"its time is invalid: {', '.join(result.causes)}"
    where = "" if timed.is_finalist else ", in the screening round"
    return f"slower: {ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the recommended one's time{where}"


def to_json(timed: TimedCandidate) -> dict[str, Any]:
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
        "round": "long" if timed.is_finalist else "short",
        "valid": result.valid,
        "warnings": result.warnings,
    }
