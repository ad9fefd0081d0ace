"""Where a sweep's files will run, and their latency: estimated for a board, or measured on this machine or over ssh."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import Record
from edgecls.benchmark.session import run_benchmark
from edgecls.benchmark.table import why_invalid
from edgecls.boards.doctor import find_profile
from edgecls.boards.machine import read_machine
from edgecls.boards.profiles import Profile
from edgecls.boards.targets import Target, find_target
from edgecls.choose.rounds import LARGEST_BATCH
from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import estimate
from edgecls.estimate.model import COVERAGE
from edgecls.estimate.operators import count_network
from edgecls.limits import Format
from edgecls.progress import Progress, silent

SECONDS = 1.0
MEASURED_COVERAGE = 0.95

Benchmark = Callable[[Sequence[Path], Progress], Record]
"""Times files, each in its usual engine and threads, in alternating batches, for `SECONDS` at least."""


@dataclass(frozen=True)
class Deployment:
    """Where the files will run."""

    profile: Profile | None  # of the board, or None for this machine
    host: str  # name of the board for ssh, if times are measured there; else ""
    is_timed: bool  # True if times are measured, on the host or because this machine is the board
    precision: str  # one of `limits.PRECISIONS`
    format: Format  # of the files
    target: Target  # that int8 files are made for


@dataclass(frozen=True)
class Latency:
    """How long one image takes, the network alone."""

    p50_ms: float  # median
    low_ms: float  # lower end of the interval of `coverage`
    high_ms: float  # its upper end
    source: str  # "estimate" or "measured"
    setting: str  # engine and threads, in words
    notes: tuple[str, ...] = ()  # why a measurement is not valid, or remarks on an estimate

    @property
    def coverage(self) -> float:
        """Return the fraction of such intervals that hold the true value, 0..1."""
        return COVERAGE if self.source == "estimate" else MEASURED_COVERAGE

    def chance_above(self, budget_ms: float | None) -> float:
        """Return the probability, 0..1, that the median is above a budget, if its error is log-normal."""
        if budget_ms is None:
            return 0.0
        reach = NormalDist().inv_cdf((1 + self.coverage) / 2)
        sd = math.log(self.high_ms / self.low_ms) / (2 * reach)
        gap = math.log(budget_ms / self.p50_ms)
        return 1 - NormalDist().cdf(gap / sd) if sd > 0 else float(gap < 0)


def find_deployment(profile: Profile | None, host: str = "") -> Deployment:
    """Return the files that suit a board, or int8 ones for this machine if `profile` is None.

    Raises:
        ConfigError: a host without a profile, or with an accelerator, which cannot be timed there.
    """
    own = find_profile(read_machine())
    if profile is None:
        if host:
            raise ConfigError(f"--host {host} needs --board, which says what files to make for it")
        kind: Format = own.recommended.format if own else "tflite"
        return Deployment(None, "", True, "int8", kind, find_target(None))
    if host and profile.accelerator:
        raise ConfigError(
            f"--host times processors, not the {profile.accelerator} of {profile.name}. Leave --host out."
        )
    # An accelerator's times are not those of this machine's processor.
    is_own = own is not None and own.name == profile.name and not profile.accelerator
    best, target = profile.recommended, find_target(profile.export_target)
    return Deployment(profile, host, is_own or bool(host), best.precision, best.format, target)


def estimate_latency(config: TrainConfig, classes: int, deployment: Deployment) -> Latency | None:
    """Return the estimate for a network that is not trained yet; None if no board was named.

    Raises:
        ConfigError: nothing is known of such networks on the board.
    """
    if deployment.profile is None:
        return None
    found = estimate(count_network(config, classes), deployment.profile, deployment.precision)
    setting = f"{found.engine}, threads: {found.threads}"
    return Latency(found.p50_ms, found.low_ms, found.high_ms, "estimate", setting, found.notes)


def benchmark_here(files: Sequence[Path], progress: Progress) -> Record:
    """Return the times of the files on this machine.

    Raises:
        BenchmarkError: a benchmark process ended.
    """
    chosen = [Configuration(str(file)) for file in files]
    return run_benchmark(chosen, Settings(seconds=SECONDS), progress=progress)


def measure_latencies(
    files: Sequence[Path], benchmark: Benchmark = benchmark_here, progress: Progress = silent
) -> list[Latency]:
    """Return the latency of every file; as many as fit in memory are timed together by `benchmark`.

    Raises:
        EdgeclsError: of `benchmark`.
    """
    found = []
    for start in range(0, len(files), LARGEST_BATCH):
        record = benchmark(files[start : start + LARGEST_BATCH], progress)
        doubt = _find_doubt(record)
        found += [
            Latency(
                result.p50_ms,
                result.p50_low_ms,
                result.p50_high_ms,
                "measured",
                f"{result.engine} {result.engine_version}, threads: {result.threads}",
                () if result.valid else (doubt,),
            )
            for result in record.results
        ]
    return found


def _find_doubt(record: Record) -> str:
    """Return which times are not valid, why, and what to do about it."""
    invalid = [result for result in record.results if not result.valid]
    whose = (
        "No time is"
        if len(invalid) == len(record.results)
        else f"{len(invalid)} of {len(record.results)} times are not"
    )
    causes = ", ".join(dict.fromkeys(cause for result in invalid for cause in result.causes))
    return f"{whose} valid ({causes}). {why_invalid(record)} Repeat the command: it only measures again."
