"""The trainings of a sweep: which are begun, in the current pool, and what came of each."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from edgecls.boards.cpus import allowed_cpus
from edgecls.boards.profiles import Profile
from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, ExportError, TrainingError, WeightsError
from edgecls.estimate.operators import count_network
from edgecls.parallel.pool import Here, current_pool
from edgecls.progress import Progress, silent
from edgecls.sweep import halving
from edgecls.sweep.grid import Candidate
from edgecls.sweep.latency import Place
from edgecls.sweep.run import Scored, score_run, train_run
from edgecls.training.distributed.threads import limit_tensorflow
from edgecls.training.run import run_folder

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
class Setting:
    """What every training works with, in any process; nobody watches the progress of another one.

    Attributes:
        data: folder of images.
        out: folder of the runs.
        place: where the files will run.
        max_drop: accuracy that a file may lose.
        progress: told of each stage.
    """

    data: Path
    out: Path
    place: Place
    max_drop: float
    progress: Progress

    def __reduce__(self) -> tuple[object, ...]:
        """Return what another process makes of it: it may have another current folder, and other CPUs."""
        return _arrive, (len(allowed_cpus()), self.data.absolute(), self.out.absolute(), self.place, self.max_drop)


def _arrive(threads: int, data: Path, out: Path, place: Place, max_drop: float) -> Setting:
    limit_tensorflow(threads)
    return Setting(data, out, place, max_drop, silent)


class Trial(NamedTuple):
    """A network to train, and its place among the others, for the progress."""

    candidate: Candidate
    place: str

    def __str__(self) -> str:
        """Return its name."""
        return self.candidate.name


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes:
        scored: the file; None if there is none.
        failed_because: why, or "".
        val_accuracy: of the trained network; None if it failed.
        warnings: of a training that was not there before.
        seconds: that it took, now or when it was made.
    """

    scored: Scored | None = None
    failed_because: str = ""
    val_accuracy: float | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


def train_shortly(setting: Setting, trial: Trial) -> Outcome:
    """Return what came of a short training."""
    run = setting.out / SHORT_FOLDER / trial.candidate.name
    try:
        config = halving.shorten(trial.candidate.config)
        record = train_run(setting.data, run, config, _say(setting, trial)).record
    except TrainingError as error:
        return Outcome(failed_because=str(error))
    return Outcome(val_accuracy=float(record["metrics"]["val_accuracy"]))


def train_fully(setting: Setting, trial: Trial) -> Outcome:
    """Return what came of training a network in full, of exporting it, and of scoring its file."""
    began, run, progress = time.monotonic(), setting.out / trial.candidate.name, _say(setting, trial)
    try:
        result = train_run(setting.data, run, trial.candidate.config, progress)
        found = score_run(setting.data, run, setting.place, setting.max_drop, progress)
    except (TrainingError, ExportError, WeightsError) as error:
        return Outcome(failed_because=str(error))
    # A run that was there already tells how long it took.
    seconds = max(time.monotonic() - began, float(result.record.get("seconds", 0)))
    accuracy = float(result.record["metrics"]["val_accuracy"])
    return Outcome(found, "", accuracy, tuple(result.warnings), seconds)


def _say(setting: Setting, trial: Trial) -> Progress:
    def tell(stage: str, done: int, total: int, note: str = "", /) -> None:
        setting.progress(f"{trial.candidate.name} ({trial.place}): {stage}", done, total, note)

    return tell


class Trials:
    """Trains, exports and scores candidates, and keeps what came of each."""

    def __init__(self, data: Path, out: Path, place: Place, request: Request, classes: int, progress: Progress) -> None:
        self.scored: dict[str, Scored] = {}
        self.left_out: dict[str, str] = {}
        self.warnings: dict[str, tuple[str, ...]] = {}
        self._setting = Setting(data, out, place, request.max_drop, progress)
        self._request, self._classes = request, classes
        self._began = time.monotonic()
        self._seconds_a_multiply_add = 0.0
        self._begun = self._total = 0

    def run_all(self, candidates: Sequence[Candidate]) -> None:
        """Train all, or the promising ones of many."""
        self._total = len(candidates)
        if self._request.full_grid or len(candidates) <= halving.FULL_GRID:
            self._run_fully(candidates)
            return
        shortly: Callable[[Candidate], float | None] = self._run_shortly
        fully: Callable[[Candidate], float | None] = self._run_one_fully
        promising: list[Candidate] = []
        if not isinstance(current_pool(), Here):
            # All short trainings at once, then all whole ones: what halving decides follows from the short ones alone.
            shortly, fully = self._run_all_shortly(candidates).get, promising.append
        for stopped in halving.halve(candidates, shortly, fully):
            self.left_out[stopped.name] = "stopped after a short training: others of its size did better"
        self._run_fully(promising)

    def _run_all_shortly(self, candidates: Sequence[Candidate]) -> dict[Candidate, float | None]:
        groups = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.network)]
        trials = self._begin([each for group in groups if len(group) > 1 for each in group], SHORT_FOLDER)
        found = current_pool().map(train_shortly, self._setting, trials)
        return {trial.candidate: self._note_short(trial.candidate, outcome) for trial, outcome in found}

    def _run_shortly(self, candidate: Candidate) -> float | None:
        """Return the validation accuracy after a short training, or None if there is no time or nothing was learned."""
        for trial in self._begin([candidate], SHORT_FOLDER):
            return self._note_short(candidate, train_shortly(self._setting, trial))
        return None

    def _note_short(self, candidate: Candidate, outcome: Outcome) -> float | None:
        if outcome.failed_because:
            self.left_out[candidate.name] = outcome.failed_because
        return outcome.val_accuracy

    def _run_one_fully(self, candidate: Candidate) -> float | None:
        """Return the accuracy of the candidate's file, or None if there is none."""
        self._run_fully([candidate])
        scored = self.scored.get(candidate.name)
        return scored.comparison.accuracy if scored and scored.comparison else None

    def _run_fully(self, candidates: Sequence[Candidate]) -> None:
        pool = current_pool()
        for done, (trial, outcome) in enumerate(pool.map(train_fully, self._setting, self._begin(candidates)), 1):
            self._note(trial.candidate, outcome)
            if not isinstance(pool, Here):
                # Of a training elsewhere there is nothing to tell but its end.
                self._setting.progress("train networks", done, len(candidates), trial.candidate.name)

    def _note(self, candidate: Candidate, outcome: Outcome) -> None:
        if outcome.scored is None:
            self.left_out[candidate.name] = outcome.failed_because
            return
        rate = outcome.seconds / self._multiply_adds(candidate)
        self._seconds_a_multiply_add = max(self._seconds_a_multiply_add, rate)
        # A worker names its folders in full.
        run = self._setting.out / candidate.name
        file = run / outcome.scored.file.relative_to(outcome.scored.run)
        self.scored[candidate.name] = dataclasses.replace(outcome.scored, run=run, file=file)
        self.warnings[candidate.name] = outcome.warnings

    def _begin(self, candidates: Sequence[Candidate], folder: str = "") -> Iterator[Trial]:
        """Yield each candidate when its turn comes, if there is time; note it if there is not."""
        for candidate in candidates:
            if not folder:
                self._begun += 1
            if self._has_time(candidate, self._setting.out / folder / candidate.name):
                yield Trial(candidate, folder or f"{self._begun} of {self._total}")

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
