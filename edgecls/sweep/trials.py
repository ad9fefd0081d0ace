"""The trainings of a sweep: which of them start, in the current pool, and their results."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from edgecls.boards.cpus import allowed_cpus
from edgecls.boards.profiles import Profile
from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, ExportError, TrainingError, WeightsError
from edgecls.estimate.operators import count_network
from edgecls.messages.numbers import percent
from edgecls.parallel.pool import LocalPool, current_pool
from edgecls.progress import Progress, silent
from edgecls.sweep import halving
from edgecls.sweep.frontier import NOTHING_BEFORE, Before
from edgecls.sweep.grid import NamedNetwork
from edgecls.sweep.latency import Deployment
from edgecls.sweep.run import ScoredRun, score_run, train_run
from edgecls.training.distributed.threads import limit_tensorflow
from edgecls.training.run import run_folder

SHORT_FOLDER = "short"


@dataclass(frozen=True)
class Request:
    """What is asked of a sweep.

    Attributes:
        max_loss: accuracy that the recommended network may lose, see `frontier.recommend_fastest`; None recommends the
            most accurate one that meets the budget.
        before: what a search knows of the networks before they are trained.
        time_budget_s: no network is started that is not expected to end within these seconds; None for no limit.
    """

    budget_ms: float | None = None  # that the median time of one image may take, the network alone; None for no limit
    profile: Profile | None = None  # the board, or None for this machine
    max_drop: float = ExportConfig.max_drop  # accuracy that a file may lose against its float model
    max_loss: float | None = None
    before: Before = NOTHING_BEFORE
    max_size_bytes: int | None = None  # of the file; None for no limit
    time_budget_s: float | None = None
    full_grid: bool = False  # True to train all networks in full, however many
    host: str = ""  # name of the board for ssh, to measure times there; or ""

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        limits = {"budget": self.budget_ms, "time budget": self.time_budget_s, "max size": self.max_size_bytes}
        for name, value in limits.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and finite; received {value}")
        for drop in filter(None, (self.max_drop, self.max_loss)):
            ExportConfig(max_drop=drop)


@dataclass(frozen=True)
class Setting:
    """What every training works with. In another process, no progress is shown."""

    data: Path  # folder of images
    out: Path  # folder of the runs
    deployment: Deployment  # where the files will run
    max_drop: float  # accuracy that a file may lose
    progress: Progress  # called in each stage

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle absolute paths and the number of threads: another process may have another folder and other CPUs."""
        return _unpickle, (
            len(allowed_cpus()),
            self.data.absolute(),
            self.out.absolute(),
            self.deployment,
            self.max_drop,
        )


def _unpickle(threads: int, data: Path, out: Path, deployment: Deployment, max_drop: float) -> Setting:
    limit_tensorflow(threads)
    return Setting(data, out, deployment, max_drop, silent)


class QueuedNetwork(NamedTuple):
    """A network to train, and its number among all, for the progress."""

    candidate: NamedNetwork
    number: int  # from 1
    total: int

    def __str__(self) -> str:
        """Return its name."""
        return self.candidate.name


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    scored: ScoredRun | None = None  # the file; None if there is none
    failed_because: str = ""  # the reason, or ""
    val_accuracy: float | None = None  # of the trained network; None if it failed
    warnings: tuple[str, ...] = ()  # of a training that was not there before
    seconds: float = 0.0  # that it took, now or in an earlier call


def train_shortly(setting: Setting, trial: QueuedNetwork) -> Outcome:
    """Return the result of a short training."""
    run = setting.out / SHORT_FOLDER / trial.candidate.name
    try:
        config = halving.shorten(trial.candidate.config)
        record = train_run(setting.data, run, config, _one_stage(setting, trial, " (short training)")).record
    except TrainingError as error:
        return Outcome(failed_because=str(error))
    return Outcome(val_accuracy=float(record["metrics"]["val_accuracy"]))


def train_fully(setting: Setting, trial: QueuedNetwork) -> Outcome:
    """Return the result of training a network in full, exporting it, and scoring its file."""
    began, run, progress = time.monotonic(), setting.out / trial.candidate.name, _one_stage(setting, trial)
    try:
        result = train_run(setting.data, run, trial.candidate.config, progress)
        found = score_run(run, setting.deployment, setting.max_drop, progress)
    except (TrainingError, ExportError, WeightsError) as error:
        return Outcome(failed_because=str(error))
    if found.comparison is not None:
        progress(f"accuracy {percent(found.comparison.accuracy)}", 1, 1)
    # The record of a run that was there already says how long it took.
    seconds = max(time.monotonic() - began, float(result.record.get("seconds", 0)))
    accuracy = float(result.record["metrics"]["val_accuracy"])
    return Outcome(found, "", accuracy, tuple(result.warnings), seconds)


def _one_stage(setting: Setting, trial: QueuedNetwork, kind: str = "") -> Progress:
    """Return a progress that shows all stages of a network as notes on one, so that each network takes one line."""

    def report(stage: str, done: int, total: int, note: str = "", /) -> None:
        step = f"{stage} {done:,}/{total:,}" if total > 1 else stage
        setting.progress(
            f"{trial.candidate.name}{kind}", trial.number, trial.total, ", ".join(filter(None, (step, note)))
        )

    return report


class Trials:
    """Trains, exports and scores candidates, and keeps their results."""

    def __init__(
        self, data: Path, out: Path, deployment: Deployment, request: Request, classes: int, progress: Progress
    ) -> None:
        self.scored: dict[str, ScoredRun] = {}
        self.left_out: dict[str, str] = {}
        self.warnings: dict[str, tuple[str, ...]] = {}
        self._setting = Setting(data, out, deployment, request.max_drop, progress)
        self._request, self._classes = request, classes
        self._began = time.monotonic()
        self._seconds_a_multiply_add = 0.0
        self._begun: Counter[str] = Counter()
        self._total = 0

    def run_all(self, candidates: Sequence[NamedNetwork]) -> None:
        """Train all, or the promising ones of many."""
        self._total = len(candidates)
        if self._request.full_grid or len(candidates) <= halving.FULL_GRID:
            self._run_fully(candidates)
            return
        promising: list[NamedNetwork] = []
        if isinstance(current_pool(), LocalPool):
            stopped = halving.halve(
                candidates, lambda each: self._run_shortly([each]).get(each), lambda each: self._run_fully([each])
            )
        else:
            # On a cluster all short trainings run first, then all full ones: halving looks at the short ones alone.
            groups = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.network)]
            short = self._run_shortly([each for group in groups if len(group) > 1 for each in group])
            stopped = halving.halve(candidates, short.get, promising.append)
        for each in stopped:
            self.left_out[each.name] = "stopped after a short training: others of its size did better"
        self._run_fully(promising)

    def _run_shortly(self, candidates: Sequence[NamedNetwork]) -> dict[NamedNetwork, float | None]:
        """Return the validation accuracy of each after a short training; None if nothing was learned."""
        found: dict[NamedNetwork, float | None] = {}
        for trial, outcome in current_pool().map(train_shortly, self._setting, self._begin(candidates, SHORT_FOLDER)):
            if outcome.failed_because:
                self.left_out[trial.candidate.name] = outcome.failed_because
            found[trial.candidate] = outcome.val_accuracy
        return found

    def _run_fully(self, candidates: Sequence[NamedNetwork]) -> None:
        pool = current_pool()
        for done, (trial, outcome) in enumerate(pool.map(train_fully, self._setting, self._begin(candidates)), 1):
            self._keep(trial.candidate, outcome)
            if not isinstance(pool, LocalPool):
                # All that is known of a training in another process is that it ended.
                self._setting.progress("train networks", done, len(candidates), trial.candidate.name)

    def _keep(self, candidate: NamedNetwork, outcome: Outcome) -> None:
        if outcome.scored is None:
            self.left_out[candidate.name] = outcome.failed_because
            return
        rate = outcome.seconds / self._multiply_adds(candidate)
        self._seconds_a_multiply_add = max(self._seconds_a_multiply_add, rate)
        # A worker returns absolute paths.
        run = self._setting.out / candidate.name
        file = run / outcome.scored.file.relative_to(outcome.scored.run)
        self.scored[candidate.name] = dataclasses.replace(outcome.scored, run=run, file=file)
        self.warnings[candidate.name] = outcome.warnings

    def _begin(self, candidates: Sequence[NamedNetwork], folder: str = "") -> Iterator[QueuedNetwork]:
        """Yield each candidate if there is time for it; else keep that as the reason why it is left out."""
        for candidate in candidates:
            self._begun[folder] += 1
            if self._has_time(candidate, self._setting.out / folder / candidate.name):
                yield QueuedNetwork(candidate, self._begun[folder], self._total)

    def _has_time(self, candidate: NamedNetwork, run: Path) -> bool:
        """Return whether a run is there already, or is expected to end in time; keep the reason if it is not."""
        budget = self._request.time_budget_s
        if budget is None or (run / run_folder.RECORD_FILE).is_file():
            return True
        expected = self._seconds_a_multiply_add * self._multiply_adds(candidate)
        if time.monotonic() - self._began + expected <= budget:
            return True
        self.left_out[candidate.name] = (
            "no time was left for it; repeat the command with a longer --time-budget to continue"
        )
        return False

    def _multiply_adds(self, candidate: NamedNetwork) -> int:
        return count_network(candidate.config, self._classes).multiply_adds
