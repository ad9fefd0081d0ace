"""The predicted latency of a network on a board, with an interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgecls.boards.profiles import Profile, read_table
from edgecls.errors import ConfigError
from edgecls.estimate.model import COVERAGE, TARGETS, Evidence, Fit, Run, find_evidence, fit, fit_runs, run_of
from edgecls.estimate.operators import Network
from edgecls.estimate.published_latencies import PublishedLatency, load_latencies, load_processor
from edgecls.runtime.engines import ALIASES

# Our engine -> the name that published latencies give its kernels.
KERNELS = {"litert": "xnnpack", "onnxruntime": "onnxruntime", "openvino": "openvino"}
ENGINES = tuple(KERNELS)
MAX_THREADS = 64
# How many of the nearest references an estimate names.
NAMED_REFERENCES = 5


@dataclass(frozen=True)
class Validation:
    """The errors of estimates with the same evidence for published latencies that were left out."""

    evidence: Evidence  # see `model.Evidence`
    latencies: int  # how many were left out
    boards: int  # how many they come from
    median_error: float  # median of the relative errors
    coverage: float  # fraction of the latencies inside their intervals
    quantile: float  # half the width of the interval in standard deviations


@dataclass(frozen=True)
class BoardMeasurement:
    """The median latency of a run that was measured on the board itself."""

    run: Run
    ms: float


@dataclass(frozen=True)
class Estimate:
    """A predicted latency."""

    device: str  # name of the board
    engine: str  # of edgecls
    precision: str  # of the network
    threads: int  # of the interpreter
    p50_ms: float  # the prediction
    low_ms: float  # lower end of the interval that is expected to hold `COVERAGE` of such latencies
    high_ms: float  # its upper end
    validation: Validation  # of estimates with the same evidence
    nearest_references: tuple[PublishedLatency, ...]  # the most similar published latencies
    calibrated: bool  # True if a measurement on the board itself was used
    notes: tuple[str, ...]  # remarks for the user


@functools.cache
def published_fit() -> Fit:
    """Return the model fitted to all published latencies."""
    return fit(load_latencies(), read_table("estimate")["prior_scales"])


@functools.cache
def load_validation(evidence: Evidence) -> Validation:
    """Return the errors that benchmarks/estimate_errors.py found for estimates with this evidence."""
    return Validation(evidence=evidence, **read_table("estimate")["evidence"][evidence])


def estimate(
    network: Network,
    profile: Profile,
    precision: str,
    *,
    engine: str | None = None,
    threads: int | None = None,
    measured: Sequence[BoardMeasurement] = (),
) -> Estimate:
    """Return the predicted latency of one image on a board, the network alone.

    Args:
        network: from `operators.count_network` or `graph_operators.read_network`.
        profile: of the board.
        precision: "fp32", "fp16" or "int8".
        engine: one of `ENGINES`; None for the board's recommended one.
        threads: of the interpreter; None for the board's recommended number. An accelerator has its own.
        measured: on the same board.

    Raises:
        ConfigError: the board has no such engine or fewer cores, or no such latency is published.
    """
    engine, used = choose_engine(profile, engine), _choose_threads(profile, threads)
    run = replace(make_run(network, profile, precision, engine, used), own=bool(measured))
    known = [run_of(latency) for latency in load_latencies()]
    _check_known(run, known, profile)
    evidence = _find_evidence(run, known, measured)
    validation = _find_validation(network, evidence)
    fitted = _fit_with(known, measured) if measured else published_fit()
    # A measurement on the board is of its own system.
    system = 0.0 if measured else _system_difference(run, profile)
    return Estimate(
        *(profile.name, engine, precision, used),
        *_find_interval(fitted, run, validation.quantile, system),
        validation=validation,
        nearest_references=_find_nearest(fitted, run),
        calibrated=bool(measured),
        notes=(*_notes(network, profile, engine, precision, evidence), *_ignored(profile, threads)),
    )


def _fit_with(known: Sequence[Run], measured: Sequence[BoardMeasurement]) -> Fit:
    """Return the model fitted to the published latencies and to those measured on the board itself."""
    own = [replace(each.run, own=True) for each in measured]
    latencies_ms = [*(each.ms for each in load_latencies()), *(each.ms for each in measured)]
    return fit_runs([*known, *own], latencies_ms, published_fit().prior_scales)


def _find_validation(network: Network, evidence: Evidence) -> Validation:
    """Return the errors of such estimates; if no network like this was published, the larger ones."""
    found = [load_validation(evidence)] + ([] if network.arch in TARGETS else [load_validation("network")])
    return max(found, key=lambda each: each.quantile)


def _find_interval(fitted: Fit, run: Run, quantile: float, system: float) -> tuple[float, float, float]:
    """Return the predicted ms, and the lower and the upper end of its interval; `system` is added to the logarithm."""
    mean, sd = fitted.predict(run)
    mean += system
    return math.exp(mean), math.exp(mean - quantile * sd), math.exp(mean + quantile * sd)


def _find_nearest(fitted: Fit, run: Run) -> tuple[PublishedLatency, ...]:
    latencies = load_latencies()
    similarity = fitted.find_similarity(run)[: len(latencies)]
    return tuple(latencies[i] for i in np.argsort(-similarity, kind="stable")[:NAMED_REFERENCES])


def _system_difference(run: Run, profile: Profile) -> float:
    """Return by how much the board's system, of 32 or 64 bits, changes the logarithm of the latency.

    The model learns from both together, so this is what is published for the system less the mean of both, where both
    are published for the same network, processor, engine and precision; else 0.
    """
    bits = 32 if all(system.machine == "armv7l" for system in profile.systems) else 64
    of: dict[str, dict[int, float]] = {}
    for each in load_latencies():
        setting = each.processor, each.engine, each.precision, each.cores
        if each.bits and setting == (run.processor.name, run.engine, run.precision, run.cores):
            of.setdefault(each.model, {})[each.bits] = math.log(each.ms)
    found = [both[bits] - (both[32] + both[64]) / 2 for both in of.values() if len(both) == 2]
    return sum(found) / len(found) if found else 0.0


def choose_engine(profile: Profile, engine: str | None) -> str:
    """Return the engine for a board: `engine`, or the one that is recommended there.

    Raises:
        ConfigError: the board's accelerator needs another one, or no estimate is possible for it.
    """
    kind = load_processor(profile.hardware.processor).kind
    best = profile.recommended.engine
    if kind == "npu":
        raise ConfigError(
            f"no latency is published that an estimate for {profile.name} could learn from. "
            f"'edgecls check FILE --board {profile.name} --compile' shows what its compiler says"
        )
    engine = best if engine is None else ALIASES.get(engine, engine)
    if kind == "cpu" and engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}; received {engine!r}")
    # The interpreter that holds an Edge TPU file is LiteRT.
    if kind != "cpu" and engine != best and (kind, engine) != ("edgetpu", "litert"):
        raise ConfigError(f"{profile.name} runs networks in {best}, not in {engine}. Leave --engine out.")
    return best if kind != "cpu" else engine


def make_run(network: Network, profile: Profile, precision: str, engine: str, threads: int) -> Run:
    """Return the run that edgecls would do on a board."""
    processor = load_processor(profile.hardware.processor)
    if processor.kind == "cpu":
        # Weights of 16 bits are widened to 32 before computing.
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
            f"no {run.precision} latency is published for {_TITLES[kind]} such as {profile.name}; "
            f"use {' or '.join(found)}"
        )


_TITLES = {"cpu": "a processor", "edgetpu": "an Edge TPU", "gpu": "a desktop GPU"}


def _find_evidence(run: Run, known: Sequence[Run], measured: Sequence[BoardMeasurement]) -> Evidence:
    setting = (run.processor.name, run.engine, run.precision, run.cores)
    for other in (m.run for m in measured):
        if (other.processor.name, other.engine, other.precision, other.cores) == setting:
            return "measured"
    return find_evidence(run, [*known, *(m.run for m in measured)])


def _notes(network: Network, profile: Profile, engine: str, precision: str, evidence: Evidence) -> tuple[str, ...]:
    notes = []
    if network.arch not in TARGETS:
        notes.append(
            f"no latency of a network like {network.arch} is published, so the interval is at least as wide as for a "
            "network of which nothing is known"
        )
    if evidence == "new":
        notes.append(f"no latency of {engine} on such a processor is published, so the interval is wide")
    if all(system.machine == "armv7l" for system in profile.systems) and precision == "int8":
        notes.append(
            "the estimate is for XNNPACK, but tflite-runtime 2.14.0, the only interpreter with 32-bit wheels, does not "
            "run int8 files in XNNPACK (tested on x86), and may take several times as long"
        )
    if not load_processor(profile.hardware.processor).cores:
        notes.append(f"{profile.title} is not one certain machine, so the interval spans all published ones")
    return tuple(notes)


def _ignored(profile: Profile, threads: int | None) -> tuple[str, ...]:
    """Return which argument has no effect, in a sentence."""
    if threads is None or load_processor(profile.hardware.processor).kind == "cpu":
        return ()
    return (f"the number of threads has no effect: {profile.name} computes on its accelerator",)


def to_json(found: Estimate) -> dict[str, Any]:
    """Return an estimate as a JSON document, with the keys of older versions too: scripts read them."""
    document = asdict(found) | {"interval": COVERAGE}
    validation = document["validation"]
    validation["grounds"] = {"latency": "figure"}.get(validation["evidence"], validation["evidence"])
    validation["figures"] = validation["latencies"]
    document["leans_on"] = document["nearest_references"]
    return {key: round(value, 3) if key.endswith("_ms") else value for key, value in document.items()}
