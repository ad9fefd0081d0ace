"""Where a sweep's files will run, and how long they take there: estimated for a board, measured here or over ssh."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import Record
from edgecls.benchmark.session import run_benchmark
from edgecls.boards.doctor import find_profile
from edgecls.boards.machine import read_machine
from edgecls.boards.profiles import Profile
from edgecls.boards.targets import Target, find_target
from edgecls.choose.rounds import MOST_TOGETHER
from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import Estimate, estimate
from edgecls.estimate.grounds import COVERAGE
from edgecls.estimate.operators import count_network
from edgecls.limits import Format
from edgecls.progress import Progress, silent

SECONDS = 1.0
MEASURED_COVERAGE = 0.95

Benchmark = Callable[[Sequence[Path], Progress], Record]
"""Times files, each in its usual engine and threads, in turns, for `SECONDS` at least."""


@dataclass(frozen=True)
class Place:
    """Where the files will run.

    Attributes:
        profile: of the board, or None for this machine.
        host: the board as ssh knows it, if times are measured there; else "".
        is_timed: True if times are measured: there, or here if this machine is the board.
        precision: one of `limits.PRECISIONS`.
        format: of the files.
        target: that int8 files are made for.
    """

    profile: Profile | None
    host: str
    is_timed: bool
    precision: str
    format: Format
    target: Target


@dataclass(frozen=True)
class Latency:
    """How long one image takes, the network alone.

    Attributes:
        p50_ms: the median.
        low_ms: and the following: the interval, of `coverage`.
        high_ms: its upper end.
        source: "estimate" or "measured".
        setting: engine and threads, in words.
        notes: why a measurement is not valid, or what one should know of an estimate.
    """

    p50_ms: float
    low_ms: float
    high_ms: float
    source: str
    setting: str
    notes: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Return how often such an interval holds, 0..1."""
        return COVERAGE if self.source == "estimate" else MEASURED_COVERAGE

    def chance_above(self, budget_ms: float) -> float:
        """Return the chance, 0..1, that the median is above a budget, if errors are normal in its logarithm."""
        reach = NormalDist().inv_cdf((1 + self.coverage) / 2)
        sd = math.log(self.high_ms / self.low_ms) / (2 * reach)
        gap = math.log(budget_ms / self.p50_ms)
        return 1 - NormalDist().cdf(gap / sd) if sd > 0 else float(gap < 0)


def find_place(profile: Profile | None, host: str = "") -> Place:
    """Return what suits a board, or int8 for this machine if `profile` is None.

    Raises:
        ConfigError: of a host the profile is not known, or its accelerator cannot be timed.
    """
    here = find_profile(read_machine())
    if profile is None:
        if host:
            raise ConfigError(f"--host {host} needs --device, which says what files to make for it")
        kind: Format = here.recommended.format if here else "tflite"
        return Place(None, "", True, "int8", kind, find_target(None))
    if host and profile.accelerator:
        raise ConfigError(f"--host times processors, not the {profile.accelerator} of {profile.name}; leave it out")
    # An accelerator's times are not those of this machine's processor.
    is_here = here is not None and here.name == profile.name and not profile.accelerator
    best, target = profile.recommended, find_target(profile.export_target)
    return Place(profile, host, is_here or bool(host), best.precision, best.format, target)


def estimate_latency(config: TrainConfig, classes: int, place: Place) -> Latency | None:
    """Return the estimate for a network that is not trained yet; None if no board was named.

    Raises:
        ConfigError: nothing is known of such networks on the board.
    """
    if place.profile is None:
        return None
    return _of_estimate(estimate(count_network(config, classes), place.profile, place.precision))


def _of_estimate(found: Estimate) -> Latency:
    setting = f"{found.engine}, threads: {found.threads}"
    return Latency(found.p50_ms, found.low_ms, found.high_ms, "estimate", setting, found.notes)


def benchmark_here(files: Sequence[Path], progress: Progress) -> Record:
    """Return what this machine takes for the files.

    Raises:
        BenchmarkError: a process that timed ended.
    """
    chosen = [Configuration(str(file)) for file in files]
    return run_benchmark(chosen, Settings(seconds=SECONDS), progress=progress)


def measure_latencies(
    files: Sequence[Path], benchmark: Benchmark = benchmark_here, progress: Progress = silent
) -> list[Latency]:
    """Return the time of every file, as many as fit timed in turns.

    Args:
        files: exported ones.
        benchmark: times some of them.
        progress: told now and then.

    Raises:
        EdgeclsError: of `benchmark`.
    """
    found = []
    for start in range(0, len(files), MOST_TOGETHER):
        record = benchmark(files[start : start + MOST_TOGETHER], progress)
        found += [
            Latency(
                result.p50_ms,
                result.p50_low_ms,
                result.p50_high_ms,
                "measured",
                f"{result.engine} {result.engine_version}, threads: {result.threads}",
                () if result.valid else (f"not valid: {', '.join(result.causes)}",),
            )
            for result in record.results
        ]
    return found
