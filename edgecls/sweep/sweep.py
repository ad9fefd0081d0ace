"""The whole way: which networks may meet the budget, trained, scored and timed, and which of them to take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.config import ExportConfig
from edgecls.devices import Profile
from edgecls.errors import ConfigError, DataError, ExportError, TrainingError, WeightsError
from edgecls.estimate.operators import count_network
from edgecls.folders import check_root, find_parts, list_images
from edgecls.progress import Progress, silent
from edgecls.sweep import halving
from edgecls.sweep.frontier import Point, Step, find_frontier, find_steps, recommend
from edgecls.sweep.grid import Candidate
from edgecls.sweep.latency import (
    Benchmark,
    Latency,
    Place,
    benchmark_here,
    estimate_latency,
    find_place,
    measure_latencies,
)
from edgecls.sweep.run import Scored, score_run, train_run
from edgecls.training import run_folder
from edgecls.training.weights import find_weights

SHORT_FOLDER = "short"


@dataclass(frozen=True)
class Request:
    """What a sweep is for.

    Attributes:
        budget_ms: that the median of one image may take, the network alone.
        profile: the board, or None for this machine.
        max_drop: accuracy that a file may lose against its float model.
        time_budget_s: seconds after which no network is begun that is not expected to end in time, or None.
        full_grid: True to train all networks in full, however many.
        host: the board as ssh knows it, whose times are measured there; or "".
    """

    budget_ms: float
    profile: Profile | None = None
    max_drop: float = ExportConfig.max_drop
    time_budget_s: float | None = None
    full_grid: bool = False
    host: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        for name, value in (("budget", self.budget_ms), ("time budget", self.time_budget_s)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite; received {value}")
        ExportConfig(max_drop=self.max_drop)


@dataclass(frozen=True)
class Row:
    """What came of a candidate.

    Attributes:
        candidate: it.
        latency: measured or estimated; None if it is neither.
        scored: None if it was not trained.
        left_out_because: why it may not be recommended, or "".
    """

    candidate: Candidate
    latency: Latency | None
    scored: Scored | None
    left_out_because: str


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        data: the folder of images.
        request: what it was for.
        place: where the files will run.
        rows: one for each candidate, the fastest first.
        frontier: the fastest first.
        recommended: of the frontier; None if none meets the budget.
        slower: the next step up.
        faster: the next step down.
        warnings: of the trainings of this call.
    """

    data: Path
    request: Request
    place: Place
    rows: tuple[Row, ...]
    frontier: tuple[Point, ...]
    recommended: Point | None
    slower: Step | None
    faster: Step | None
    warnings: tuple[str, ...] = ()


def sweep(
    data: Path,
    out: Path,
    candidates: Sequence[Candidate],
    request: Request,
    progress: Progress = silent,
    benchmark: Benchmark = benchmark_here,
) -> Sweep:
    """Return the frontier of the candidates; each that was trained has a run folder in `out`.

    Called again with the same arguments, it goes on where it was interrupted.

    Args:
        data: folder of images, as for training.
        out: folder of the runs.
        candidates: of `grid.list_candidates`.
        request: what they are for.
        progress: told of each stage of each network.
        benchmark: times files where they will run, if that is here or on `request.host`.

    Raises:
        ConfigError: nothing in the grid may meet the budget, or a run in `out` was made with other settings.
        DataError: the images cannot be used. WeightsError: no network's weights can be had.
        MissingDependency: a large grid needs Optuna.
    """
    root = check_root(data)
    classes = len(list_images(root, find_parts(root)["train"]))
    place = find_place(request.profile, request.host)
    latencies = {each.name: estimate_latency(each.config, classes, place) for each in candidates}
    work = _Work(data, out, place, request, classes, progress)
    left = _drop_hopeless(candidates, latencies, request, work)
    if not request.full_grid:
        halving.check_installed(left)
    out.mkdir(parents=True, exist_ok=True)
    work.run_all(_cheapest_first(left, classes))
    _check_same_images(work.scored)
    if place.is_timed:
        there = [name for name, scored in work.scored.items() if scored.comparison is not None]
        files = [work.scored[name].file for name in there]
        latencies |= dict(zip(there, measure_latencies(files, benchmark, progress), strict=True))
    rows = [Row(each, latencies[each.name], work.scored.get(each.name), _reason(each, work)) for each in candidates]
    return replace(conclude(data, request, place, rows), warnings=tuple(work.warnings))


class _Work:
    """Trains, exports and scores candidates, and keeps what came of each."""

    def __init__(self, data: Path, out: Path, place: Place, request: Request, classes: int, progress: Progress) -> None:
        self.scored: dict[str, Scored] = {}
        self.left_out: dict[str, str] = {}
        self.warnings: list[str] = []
        self._data, self._out, self._place, self._request = data, out, place, request
        self._classes, self._progress = classes, progress
        self._began = time.monotonic()
        self._seconds_a_multiply_add = 0.0
        self._done = self._total = 0

    def run_all(self, candidates: Sequence[Candidate]) -> None:
        """Train all, or the promising ones of many."""
        self._total = len(candidates)
        if self._request.full_grid or len(candidates) <= halving.FULL_GRID:
            for candidate in candidates:
                self.run_fully(candidate)
            return
        for stopped in halving.halve(candidates, self.run_shortly, self.run_fully):
            self.left_out[stopped.name] = "stopped after a short training: others of its size did better"

    def run_shortly(self, candidate: Candidate) -> float | None:
        """Return the validation accuracy after a short training, or None if there is no time or nothing was learned."""
        run = self._out / SHORT_FOLDER / candidate.name
        if not self._has_time(candidate, run):
            return None
        try:
            config = halving.shorten(candidate.config)
            record = train_run(self._data, run, config, self._say(candidate, "short")).record
        except TrainingError as error:
            self.left_out[candidate.name] = str(error)
            return None
        return float(record["metrics"]["val_accuracy"])

    def run_fully(self, candidate: Candidate) -> float | None:
        """Return the accuracy of the candidate's file, or None if there is none."""
        run = self._out / candidate.name
        self._done += 1
        if not self._has_time(candidate, run):
            return None
        began, progress = time.monotonic(), self._say(candidate, f"{self._done} of {self._total}")
        try:
            result = train_run(self._data, run, candidate.config, progress)
            found = score_run(self._data, run, self._place, self._request.max_drop, progress)
        except (TrainingError, ExportError, WeightsError) as error:
            self.left_out[candidate.name] = str(error)
            return None
        # A run that was there already tells how long it took.
        seconds = max(time.monotonic() - began, float(result.record["seconds"]))
        rate = seconds / self._multiply_adds(candidate)
        self._seconds_a_multiply_add = max(self._seconds_a_multiply_add, rate)
        self.scored[candidate.name] = found
        self.warnings += [f"{candidate.name}: {warning}" for warning in result.warnings]
        return found.comparison.accuracy if found.comparison else None

    def _has_time(self, candidate: Candidate, run: Path) -> bool:
        """Return whether a run is there already, or is expected to end in time; note it if it is not."""
        budget = self._request.time_budget_s
        if budget is None or (run / run_folder.RECORD_FILE).is_file():
            return True
        expected = self._seconds_a_multiply_add * self._multiply_adds(candidate)
        if time.monotonic() - self._began + expected <= budget:
            return True
        self.left_out[candidate.name] = "no time was left for it; the same command with a longer --time-budget goes on"
        return False

    def _multiply_adds(self, candidate: Candidate) -> int:
        return count_network(candidate.config, self._classes).multiply_adds

    def _say(self, candidate: Candidate, place: str) -> Progress:
        def tell(stage: str, done: int, total: int, note: str = "", /) -> None:
            self._progress(f"{candidate.name} ({place}): {stage}", done, total, note)

        return tell


def _drop_hopeless(
    candidates: Sequence[Candidate], latencies: Mapping[str, Latency | None], request: Request, work: _Work
) -> list[Candidate]:
    """Return the candidates that are worth training; note of the others why they are not."""
    slow = {each.name: _too_slow(latencies[each.name], request.budget_ms) for each in candidates}
    found = {each.name: slow[each.name] or _lack_of_weights(each) for each in candidates}
    work.left_out |= {name: reason for name, reason in found.items() if reason}
    left = [each for each in candidates if not found[each.name]]
    if not left:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in found.items())
        raise (ConfigError if any(slow.values()) else WeightsError)(f"no network of this grid can be tried:{reasons}")
    return left


def _too_slow(latency: Latency | None, budget_ms: float) -> str:
    if latency is None or latency.low_ms <= budget_ms:
        return ""
    interval = f"{latency.low_ms:.3g} to {latency.high_ms:.3g}"
    return f"not trained: {latency.p50_ms:.3g} ms are expected ({interval}), {budget_ms:g} allowed"


def _lack_of_weights(candidate: Candidate) -> str:
    config = candidate.config
    if not config.uses_backbone:
        return ""
    try:
        find_weights(config.weights, config.image_size, config.alpha)
    except (WeightsError, ConfigError) as error:
        return f"not trained: {error}"
    return ""


def _cheapest_first(candidates: Sequence[Candidate], classes: int) -> list[Candidate]:
    """Return those of one `network` next to each other: something is there early, and a rate to expect more by."""
    cost = {each: count_network(each.config, classes).multiply_adds for each in candidates}
    least: dict[tuple[str, int, float], int] = {}
    for each in candidates:
        least[each.network] = min(cost[each], least.get(each.network, cost[each]))
    return sorted(candidates, key=lambda each: (least[each.network], each.network, each.config.unfreeze, cost[each]))


def _check_same_images(scored: dict[str, Scored]) -> None:
    runs = list(scored.values())
    if other := [each.run for each in runs if each.held_out != runs[0].held_out]:
        raise DataError(
            f"{other[0]} and {runs[0].run} were scored on unlike images: some came or went meanwhile; give --out "
            "another folder"
        )


def _reason(candidate: Candidate, work: _Work) -> str:
    scored = work.scored.get(candidate.name)
    return work.left_out.get(candidate.name, "") or (scored.problem if scored else "")


def conclude(data: Path, request: Request, place: Place, rows: Sequence[Row]) -> Sweep:
    """Return the frontier of all rows that may be shipped, and what to take of it."""
    frontier = find_frontier([point for row in rows if (point := point_of(row))])
    chosen = recommend(frontier, request.budget_ms)
    slower, faster = find_steps(frontier, chosen) if chosen else (None, None)
    known = sorted(rows, key=lambda row: row.latency.p50_ms if row.latency else math.inf)
    return Sweep(data, request, place, tuple(known), frontier, chosen, slower, faster)


def point_of(row: Row) -> Point | None:
    """Return what is compared of a row, or None if it may not be shipped."""
    scored = row.scored
    if row.left_out_because or scored is None or scored.comparison is None or row.latency is None:
        return None
    return Point(row.candidate.name, scored.comparison.accuracy, scored.wrong, row.latency, scored.size_bytes)
