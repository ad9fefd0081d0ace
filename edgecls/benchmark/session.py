"""Run configurations in alternating batches, each in a process of its own, and watch the machine."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls import __version__, errors
from edgecls.benchmark.machine_state import State
from edgecls.benchmark.measure import compare_runs, summarize
from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.process import LOCAL, WorkerProcess
from edgecls.benchmark.record import Record, Result
from edgecls.benchmark.verdict import LEAST_SAMPLES, judge
from edgecls.boards.rule_result import is_yes, rules_against
from edgecls.progress import Progress, silent

WARM_UP_S = 10.0
# Long enough that the first calls, which find another configuration's data in the caches, do not count; short enough
# that a disturbance affects all configurations.
BATCH_S = 0.1
CALLS = (5, 200)
LEAST_BATCHES = 10
# A slow board stops with too few samples after so many times the seconds asked for, or after these seconds.
PATIENCE, PATIENCE_S = 6.0, 60.0
LOOK_EVERY_S = 1.0
_OBSERVED = ("wall_s", "own_s", "busy_s", "steal_s", "waited_s")


@dataclass(eq=False)
class _Gathered:
    """The measurements of one configuration so far."""

    opened: dict[str, Any]
    warm_up: dict[str, Any] | None = None
    calls: int = 1
    batches: list[dict[str, Any]] = field(default_factory=list)

    @property
    def samples(self) -> NDArray[np.float64]:
        """Return ms, float64 (batches, calls)."""
        return np.array([batch["ms"] for batch in self.batches], np.float64)

    def progress(self, settings: Settings) -> float:
        """Return the fraction of the work that is done, 1.0 or more at the end."""
        measured = float(sum(batch["wall_s"] for batch in self.batches))
        samples = len(self.batches) * self.calls / LEAST_SAMPLES[settings.scope]
        if settings.scope == "load":
            return samples
        least = min(samples, len(self.batches) / LEAST_BATCHES, measured / settings.seconds)
        return max(least, measured / max(PATIENCE_S, PATIENCE * settings.seconds))


class _Watch:
    """Reads the state of the machine at intervals, through a worker that does nothing else."""

    def __init__(self, monitor: WorkerProcess) -> None:
        self.states: list[State] = []
        self._monitor = monitor
        self.look()

    def look(self) -> None:
        """Read the state of the machine now."""
        self.states.append(State(**self._monitor.ask("state")))

    def look_at_intervals(self, gathered: Sequence[_Gathered]) -> None:
        """Read the state if enough time was measured since the last reading."""
        measured = sum(batch["wall_s"] for each in gathered for batch in each.batches)
        if measured >= LOOK_EVERY_S * len(self.states):
            self.look()


def run_benchmark(
    configurations: Sequence[Configuration],
    settings: Settings,
    *,
    command: Sequence[str] = LOCAL,
    progress: Progress = silent,
) -> Record:
    """Measure configurations in alternating batches, and return the record with a verdict on each.

    Raises:
        ConfigError: no configuration, or no image for the scope end-to-end.
        EdgeclsError: as `edgecls.load` and reading an image raise it.
        BenchmarkError: a process ended.
    """
    if not configurations:
        raise errors.ConfigError("no file to measure; pass one that 'edgecls export' wrote")
    if settings.scope == "end-to-end" and not all(each.images for each in configurations):
        raise errors.ConfigError("scope 'end-to-end' reads images from disk; pass a folder of images with --images")
    with WorkerProcess(command) as monitor:
        machine = monitor.ask("describe")
        watch = _Watch(monitor)
        if settings.scope == "load":
            gathered = _time_loads(configurations, settings, command, watch, progress)
        else:
            gathered = _time_calls(configurations, settings, command, watch, progress)
        watch.look()
    results = [
        _conclude(configuration, settings, each, machine, watch.states)
        for configuration, each in zip(configurations, gathered, strict=True)
    ]
    return Record(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        edgecls=__version__,
        settings=asdict(settings),
        machine=machine,
        states=[asdict(state) for state in watch.states],
        results=results,
        ratios=_compare_pairs(gathered, settings),
    )


def _time_calls(
    configurations: Sequence[Configuration],
    settings: Settings,
    command: Sequence[str],
    watch: _Watch,
    progress: Progress,
) -> list[_Gathered]:
    with ExitStack() as stack:
        workers, gathered = [], []
        for place, configuration in enumerate(configurations):
            worker = stack.enter_context(WorkerProcess(command))
            gathered.append(_Gathered(worker.ask("open", **asdict(configuration), scope=settings.scope)))
            gathered[-1].warm_up = worker.ask("warm_up", seconds=WARM_UP_S)
            calls = round(BATCH_S * 1000 / gathered[-1].warm_up["call_ms"])
            gathered[-1].calls = min(max(CALLS[0], calls), CALLS[1])
            workers.append(worker)
            progress("loading and warming up", place + 1, len(configurations))
        if settings.fps is not None:
            for place, (worker, each) in enumerate(zip(workers, gathered, strict=True)):
                each.batches = [worker.ask("pace", fps=settings.fps, seconds=settings.seconds)]
                watch.look()
                progress("simulating a camera", place + 1, len(workers))
            return gathered
        random = np.random.default_rng(settings.seed)
        while (fraction := min(each.progress(settings) for each in gathered)) < 1:
            for place in random.permutation(len(workers)):
                each = gathered[place]
                each.batches.append(workers[place].ask("batch", calls=each.calls))
            watch.look_at_intervals(gathered)
            progress("measuring", int(fraction * 100), 100)
        progress("measuring", 100, 100)
    return gathered


def _time_loads(
    configurations: Sequence[Configuration],
    settings: Settings,
    command: Sequence[str],
    watch: _Watch,
    progress: Progress,
) -> list[_Gathered]:
    random = np.random.default_rng(settings.seed)
    gathered: dict[int, _Gathered] = {}
    batches = LEAST_SAMPLES["load"]
    for batch in range(batches):
        for place in random.permutation(len(configurations)):
            # A new process each time, because a second load would find the interpreter imported.
            with WorkerProcess(command) as worker:
                opened = worker.ask("open", **asdict(configurations[place]), scope=settings.scope)
            each = gathered.setdefault(int(place), _Gathered(opened))
            each.batches.append(opened | {"ms": [opened["load_ms"]]})
        watch.look_at_intervals(list(gathered.values()))
        progress("loading", batch + 1, batches)
    return [gathered[place] for place in range(len(configurations))]


def _conclude(
    configuration: Configuration,
    settings: Settings,
    gathered: _Gathered,
    machine: dict[str, Any],
    states: Sequence[State],
) -> Result:
    """Return the result of one configuration with its verdict."""
    opened, samples, batches = gathered.opened, gathered.samples, gathered.batches
    peaks = [batch["peak_rss_mb"] for batch in batches if batch["peak_rss_mb"] is not None]
    result = Result(
        file=configuration.file,
        asked={"engine": configuration.engine, "threads": configuration.threads, "device": configuration.device},
        **{key: opened[key] for key in ("model", "engine", "engine_version", "device", "threads", "cpus")},
        **{key: opened[key] for key in ("load_ms", "first_ms", "base_rss_mb")},
        peak_rss_mb=max(peaks, default=None),
        scope=settings.scope,
        fps=settings.fps,
        **asdict(summarize(samples, settings.seed)),
        warm_up=gathered.warm_up,
        paced=batches[0].get("paced"),
        calls_per_batch=samples.shape[1],
        samples_ms=samples.ravel().tolist(),
        observed={key: sum(batch[key] for batch in batches) for key in _OBSERVED},
        mhz=[batch["mhz"] for batch in batches if batch["mhz"] is not None],
        causes=[],
        warnings=[],
    )
    findings = judge(result, machine, states)
    causes = rules_against(findings)
    warnings = [f"{finding.rule}: {finding.text}" for finding in findings]
    return replace(result, valid=is_yes(findings), causes=causes, warnings=warnings)


def _compare_pairs(gathered: Sequence[_Gathered], settings: Settings) -> list[dict[str, Any]]:
    if settings.fps is not None:
        return []
    samples = [each.samples for each in gathered]
    return [
        {"slow": slow, "fast": fast} | asdict(compare_runs(samples[slow], samples[fast], settings.seed, in_turns=True))
        for slow, fast in combinations(range(len(gathered)), 2)
    ]
