"""The results of a benchmark, and the JSON file with every sample, the machine and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark.measure import Ratio
from edgecls.errors import EdgeclsError
from edgecls.files import SHA256, json_sha256, read_checked, write_atomically
from edgecls.validation import check

# Schema 1 has `calls_per_turn`, and "noisy neighbour" for contention.
SCHEMA = 2
MODEL_KEYS = ("format", "bytes", "sha256", "arch", "precision", "height", "width", "classes", "accuracy")
# Nanoseconds, the resolution of clocks.
SAMPLE_DIGITS = 6


class BenchmarkError(EdgeclsError, RuntimeError):
    """A benchmark could not be run, or its file cannot be used."""


class _State(TypedDict):
    governors: dict[str, str]


class _Ratio(TypedDict):
    slow: int
    fast: int
    ratio: float
    low: float
    high: float


class _Model(TypedDict):
    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The result of one configuration."""

    file: str  # path as it was given
    model: dict[str, Any]  # `MODEL_KEYS` of the file
    asked: dict[str, Any]  # engine, threads and device that were asked for; None for any
    engine: str  # that ran it
    engine_version: str  # of its package
    device: str  # that it ran on
    threads: int  # of the interpreter
    cpus: list[int]  # that the process was bound to
    scope: str  # one of `plan.SCOPES`
    fps: float | None  # of the simulated camera, or None
    n: int  # number of samples
    p50_ms: float  # this and what follows: see `measure.Summary`
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    p50_low_ms: float
    p50_high_ms: float
    per_second: float
    load_ms: float  # from the file to a ready interpreter in a new process, with the import of its package
    first_ms: float  # the first call after that
    base_rss_mb: float | None  # memory before loading; None if unknown
    peak_rss_mb: float | None  # maximum memory
    warm_up: dict[str, Any] | None  # see `measure.WarmUp`; None if nothing warms up
    paced: dict[str, Any] | None  # see `measure.Paced`; None without a camera
    calls_per_batch: int  # size of a batch in `samples_ms`
    samples_ms: list[float]  # every sample, in order
    observed: dict[str, float]  # seconds while measuring: wall, own (CPU time), busy (of these CPUs), steal, waited
    mhz: list[float]  # mean frequency of these CPUs after each batch; empty if unknown
    valid: bool = True  # True if no rule says that the result is not valid
    causes: list[str]  # names of the rules that do
    warnings: list[str]  # remarks in words

    @property
    def batches(self) -> NDArray[np.float64]:
        """Return the samples in ms, float64 (batches, calls)."""
        return np.array(self.samples_ms, np.float64).reshape(-1, self.calls_per_batch)


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """One run of the benchmark.

    Attributes:
        ratios: of every two results in alternating batches: `slow` and `fast` (indices), `ratio`, `low`, `high`.
    """

    created: str  # ISO time
    edgecls: str  # version
    settings: dict[str, Any]  # see `plan.Settings`
    machine: dict[str, Any]  # see `machine.describe`; with `host` if it was measured over `--host`
    states: list[dict[str, Any]]  # see `machine_state.State`: before, while and after measuring
    results: list[Result]  # one for each configuration
    ratios: list[dict[str, Any]]

    def file_of(self, result: Result) -> str:
        """Return the name of a result's file, or its path if another file of this run has the same name."""
        name = Path(result.file).name
        alike = {other.file for other in self.results if Path(other.file).name == name}
        return name if len(alike) < 2 else result.file

    def name_of(self, result: Result) -> str:
        """Return a few words that distinguish a result from the others of this run."""
        where = "" if result.device == "cpu" else f" on {result.device}"
        return f"{self.file_of(result)} in {result.engine}{where}, threads: {result.threads}"

    def to_json(self) -> dict[str, Any]:
        """Return the document that `benchmark --json` writes."""
        document = {"schema": SCHEMA} | {field.name: getattr(self, field.name) for field in fields(self)}
        results = [asdict(result) for result in self.results]
        for result in results:
            result["samples_ms"] = [round(sample, SAMPLE_DIGITS) for sample in result["samples_ms"]]
        return document | {"results": results}


def find_ratio(record: Record, slow: int, fast: int) -> Ratio | None:
    """Return how many times slower one result is than another, by index; None if their batches did not alternate."""
    for pair in record.ratios:
        if (pair["slow"], pair["fast"]) == (slow, fast):
            return Ratio(pair["ratio"], pair["low"], pair["high"])
        if (pair["slow"], pair["fast"]) == (fast, slow):
            return Ratio(1 / pair["ratio"], 1 / pair["high"], 1 / pair["low"])
    return None


def write_record(record: Record, path: Path) -> None:
    """Write the JSON file of a run completely, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = record.to_json()
    # Indented, each sample would take a line.
    text = json.dumps(document | {SHA256: json_sha256(document)}, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_record(path: Path) -> Record:
    """Return what `write_record` wrote.

    Raises:
        BenchmarkError: no such file, damaged, or of a newer edgecls.
    """
    if not path.is_file():
        raise BenchmarkError(f"no such file: {str(path)!r}; pass one that 'edgecls benchmark --json' wrote")
    try:
        document = read_checked(path)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} is not JSON or is damaged ({error}); measure again with --json") from error
    return parse_record(document, str(path))


def parse_record(document: Any, name: str) -> Record:
    """Return the record in a JSON document; `name` is for messages.

    Raises:
        BenchmarkError: damaged, or of a newer edgecls.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BenchmarkError(
            f"{name} is not a benchmark of edgecls: its schema is {schema!r}; measure again with --json"
        )
    if schema > SCHEMA:
        raise BenchmarkError(f"{name} has schema {schema}, and this edgecls reads up to {SCHEMA}; upgrade edgecls")
    try:
        results = [_parse_result(result) for result in document["results"]]
        known = {field.name: document[field.name] for field in fields(Record)}
        check(known | {"results": []}, Record, "the record")
        check(known["states"], list[_State], "states")
        check(known["ratios"], list[_Ratio], "ratios")
        if not results:
            raise ValueError("results is empty")
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(f"{name} is damaged ({error!r}); measure again with --json") from error
    return Record(**(known | {"results": results}))


def _parse_result(raw: Mapping[str, Any]) -> Result:
    if "calls_per_turn" in raw:
        raw = _upgrade(raw)
    values = {field.name: raw[field.name] for field in fields(Result)}
    check(values, Result, "a result")
    result = Result(**values)
    times = result.batches
    if missing := [key for key in MODEL_KEYS if key not in result.model]:
        raise ValueError(f"model lacks {', '.join(missing)}")
    check(result.model, _Model, "model")
    if times.size == 0 or not all(math.isfinite(time) and time > 0 for time in times.ravel()):
        raise ValueError("samples_ms must be numbers above 0")
    return result


def _upgrade(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result of schema 1 as one of today."""
    causes = ["contention" if cause == "noisy neighbour" else cause for cause in raw["causes"]]
    warnings = [warning.replace("noisy neighbour:", "contention:", 1) for warning in raw["warnings"]]
    return {**raw, "calls_per_batch": raw["calls_per_turn"], "causes": causes, "warnings": warnings}
