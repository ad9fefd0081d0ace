"""The estimate itself: a network, a board, and what is known of such boards -> milliseconds with an interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecls.boards.profiles import Profile, read_table
from edgecls.errors import ConfigError
from edgecls.estimate.figures import Figure, Processor, load_figures, load_processor
from edgecls.estimate.grounds import COVERAGE, TARGETS, Grounds, grounds_of
from edgecls.estimate.model import Fit, Run, fit, fit_runs, run_of
from edgecls.estimate.operators import Network
from edgecls.runtime.engines import ALIASES

# Our engine -> what published latencies call its kernels.
KERNELS = {"litert": "xnnpack", "onnxruntime": "onnxruntime", "openvino": "openvino"}
ENGINES = tuple(KERNELS)
MAX_THREADS = 64
# How many of the figures that an estimate leans on are named.
NAMED_FIGURES = 5


@dataclass(frozen=True)
class Validation:
    """How estimates on the same grounds did on published latencies that were left out.

    Attributes:
        grounds: see `validate.GROUNDS`.
        figures: that were left out.
        boards: that they are of.
        median_error: share by which half of the estimates were off at most.
        coverage: share of the figures that lay inside their intervals.
        quantile: standard deviations that the interval reaches to either side.
    """

    grounds: Grounds
    figures: int
    boards: int
    median_error: float
    coverage: float
    quantile: float


@dataclass(frozen=True)
class Measured:
    """A latency that was measured on the board itself.

    Attributes:
        run: what was measured.
        ms: its median.
    """

    run: Run
    ms: float


@dataclass(frozen=True)
class Estimate:
    """A predicted latency.

    Attributes:
        device: name of the board.
        engine: of edgecls that would run it.
        precision: of the network.
        threads: of the interpreter.
        p50_ms: the prediction.
        low_ms: and the following: the interval, made to hold `validate.COVERAGE` of such figures.
        high_ms: its upper end.
        validation: of estimates on the same grounds.
        leans_on: the published latencies that have most in common with it.
        calibrated: True if a measurement on the board itself took part.
        notes: what one should know.
    """

    device: str
    engine: str
    precision: str
    threads: int
    p50_ms: float
    low_ms: float
    high_ms: float
    validation: Validation
    leans_on: tuple[Figure, ...]
    calibrated: bool
    notes: tuple[str, ...]


@functools.cache
def published_fit() -> Fit:
    """Return the model fitted to all published latencies."""
    return fit(load_figures(), read_table("estimate")["spreads"])


@functools.cache
def load_validation(grounds: Grounds) -> Validation:
    """Return the errors that benchmarks/estimate_errors.py found for estimates on these grounds."""
    return Validation(grounds=grounds, **read_table("estimate")["grounds"][grounds])


def estimate(
    network: Network,
    profile: Profile,
    precision: str,
    *,
    engine: str | None = None,
    threads: int | None = None,
    measured: Sequence[Measured] = (),
) -> Estimate:
    """Return the predicted latency of a network on a board, of one image and the network alone.

    Many networks may be asked for: after the first, an answer takes a few milliseconds.

    Args:
        network: from `operators.count_network` or `graph_operators.read_network`.
        profile: of the board.
        precision: "fp32", "fp16" or "int8".
        engine: one of `ENGINES`, or None for the board's recommended one.
        threads: of the interpreter, or None for the board's recommended number.
        measured: on this very board.

    Raises:
        ConfigError: the board has no such engine or so many cores, or nothing is known of such networks there.
    """
    engine = choose_engine(profile, engine)
    threads = _choose_threads(profile, threads)
    run = make_run(network, profile, precision, engine, threads)
    figures = load_figures()
    known = [run_of(figure) for figure in figures]
    if measured:
        run = replace(run, own=True)
    _check_known(run, known, profile)
    fitted = _fit_with(measured)
    grounds = _grounds(run, known, measured)
    mean, sd = fitted.predict(run)
    validation = _validation_of(network, grounds)
    reach = validation.quantile * sd
    shares = fitted.leans_on(run)[: len(figures)]
    return Estimate(
        device=profile.name,
        engine=engine,
        precision=precision,
        threads=threads,
        p50_ms=math.exp(mean),
        low_ms=math.exp(mean - reach),
        high_ms=math.exp(mean + reach),
        validation=validation,
        leans_on=tuple(figures[i] for i in np.argsort(-shares, kind="stable")[:NAMED_FIGURES]),
        calibrated=bool(measured),
        notes=_notes(network, profile, engine, precision, grounds),
    )


def _fit_with(measured: Sequence[Measured]) -> Fit:
    published = published_fit()
    if not measured:
        return published
    figures = load_figures()
    runs = [*map(run_of, figures), *(replace(m.run, own=True) for m in measured)]
    return fit_runs(runs, [*(f.ms for f in figures), *(m.ms for m in measured)], published.spreads)


def _validation_of(network: Network, grounds: Grounds) -> Validation:
    found = load_validation(grounds)
    if network.arch in TARGETS:
        return found
    return max(found, load_validation("network"), key=lambda validation: validation.quantile)


def choose_engine(profile: Profile, engine: str | None) -> str:
    """Return the engine that a board would run a network in: `engine`, or what is recommended there.

    Raises:
        ConfigError: the board's accelerator takes another one.
    """
    kind = load_processor(profile.hardware.processor).kind
    best = profile.recommended.engine
    engine = best if engine is None else ALIASES.get(engine, engine)
    if kind == "cpu" and engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}; received {engine!r}")
    # The interpreter that holds an Edge TPU file is LiteRT.
    if kind != "cpu" and engine != best and (kind, engine) != ("edgetpu", "litert"):
        raise ConfigError(f"{profile.name} runs networks in {best}, not in {engine}; leave --engine out")
    return best if kind != "cpu" else engine


def make_run(network: Network, profile: Profile, precision: str, engine: str, threads: int) -> Run:
    """Return what a latency of edgecls on a board depends on."""
    processor = load_processor(profile.hardware.processor)
    if processor.kind == "cpu":
        # Weights of 16 bits are widened; the arithmetic is that of 32.
        return Run(network, processor, KERNELS[engine], "int8" if precision == "int8" else "fp32", threads)
    return Run(network, processor, "edgetpu" if processor.kind == "edgetpu" else "cuda", precision, 1)


def _choose_threads(profile: Profile, threads: int | None) -> int:
    processor = load_processor(profile.hardware.processor)
    if processor.kind != "cpu":
        return profile.recommended.threads
    most = processor.cores or MAX_THREADS
    threads = min(profile.recommended.threads, most) if threads is None else threads
    if not 1 <= threads <= most:
        raise ConfigError(f"threads must be 1 to {most} for {profile.name}; received {threads}")
    return threads


def _check_known(run: Run, known: Sequence[Run], profile: Profile) -> None:
    kind = run.processor.kind
    found = sorted({other.precision for other in known if other.processor.kind == kind})
    if run.precision not in found:
        raise ConfigError(
            f"nothing is published of {run.precision} on {_title(run.processor)} such as {profile.name}; "
            f"use {' or '.join(found)}"
        )


def _title(processor: Processor) -> str:
    return {"cpu": "a processor", "edgetpu": "an Edge TPU", "gpu": "a desktop GPU"}[processor.kind]


def _grounds(run: Run, known: Sequence[Run], measured: Sequence[Measured]) -> Grounds:
    setting = (run.processor.name, run.engine, run.precision, run.cores)
    for other in (m.run for m in measured):
        if (other.processor.name, other.engine, other.precision, other.cores) == setting:
            return "measured"
    return grounds_of(run, [*known, *(m.run for m in measured)])


def _notes(network: Network, profile: Profile, engine: str, precision: str, grounds: Grounds) -> tuple[str, ...]:
    notes = []
    if network.arch not in TARGETS:
        notes.append(
            f"no latency of a network like {network.arch} is published: the interval is made as for networks that were "
            "left out entirely, or wider"
        )
    if grounds == "new":
        notes.append(f"no latency of {engine} on such a processor is published: the interval is wide for that reason")
    if all(system.machine == "armv7l" for system in profile.systems) and precision == "int8":
        notes.append(
            "the figures are XNNPACK's; tflite-runtime 2.14.0, the only interpreter with 32-bit wheels, does not run "
            "int8 files in XNNPACK (seen on x86), and may take several times as long"
        )
    if not load_processor(profile.hardware.processor).cores:
        notes.append(f"{profile.title} is no certain machine: the interval spans the ones that are published")
    return tuple(notes)


def to_json(found: Estimate) -> dict[str, Any]:
    """Return an estimate as a JSON document."""
    from dataclasses import asdict

    document = asdict(found) | {"interval": COVERAGE}
    return {key: round(value, 3) if key.endswith("_ms") else value for key, value in document.items()}
