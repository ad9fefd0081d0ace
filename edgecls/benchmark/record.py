"""What a benchmark found, and the JSON file that keeps it: every sample, the machine, the verdict."""

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

SCHEMA = 1
MODEL_KEYS = ("format", "bytes", "sha256", "arch", "precision", "height", "width", "classes", "accuracy")
# A nanosecond: clocks tell no less.
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
    """One configuration's figures.

    Attributes:
        file: path as it was given.
        model: what identifies the file: `MODEL_KEYS`.
        asked: engine, threads and device that were asked for; None is no wish.
        engine: that ran it.
        engine_version: of its package.
        device: that it ran on.
        threads: of the interpreter.
        cpus: that the process was bound to.
        scope: one of `plan.SCOPES`.
        fps: of the camera that was played, or None.
        n: samples.
        p50_ms: and the following: see `measure.Summary`.
        load_ms: from the file to a ready interpreter, its package's import included, in this new process.
        first_ms: the first call after that.
        base_rss_mb: memory before loading; None if unknown.
        peak_rss_mb: most memory ever held.
        warm_up: see `measure.WarmUp`; None where nothing warms up.
        paced: see `measure.Paced`; None without a camera.
        calls_per_turn: samples are in turns of so many.
        samples_ms: every sample, in order.
        observed: seconds while measuring: wall, own (CPU time), busy (of these CPUs), steal, waited.
        mhz: mean frequency of these CPUs after each turn; empty if it cannot be seen.
        valid: True if nothing speaks against these figures.
        causes: names of the rules that do.
        warnings: all that one should know, in words.
    """

    file: str
    model: dict[str, Any]
    asked: dict[str, Any]
    engine: str
    engine_version: str
    device: str
    threads: int
    cpus: list[int]
    scope: str
    fps: float | None
    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    p50_low_ms: float
    p50_high_ms: float
    per_second: float
    load_ms: float
    first_ms: float
    base_rss_mb: float | None
    peak_rss_mb: float | None
    warm_up: dict[str, Any] | None
    paced: dict[str, Any] | None
    calls_per_turn: int
    samples_ms: list[float]
    observed: dict[str, float]
    mhz: list[float]
    valid: bool = True
    causes: list[str]
    warnings: list[str]

    @property
    def turns(self) -> NDArray[np.float64]:
        """Return the samples in ms, float64 (turns, calls)."""
        return np.array(self.samples_ms, np.float64).reshape(-1, self.calls_per_turn)

    @property
    def name(self) -> str:
        """Return a few words that tell this result from others of its run."""
        where = "" if self.device == "cpu" else f" on {self.device}"
        return f"{Path(self.file).name} in {self.engine}{where}, threads: {self.threads}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """One run of the benchmark.

    Attributes:
        created: ISO time.
        edgecls: version.
        settings: see `plan.Settings`.
        machine: see `machine.describe`; `host` is the board's, if it was measured through `--host`.
        states: see `machine.State`: before, now and then meanwhile, after.
        results: one a configuration.
        ratios: of every two results that took turns: `slow` and `fast` (places in results), `ratio`, `low`, `high`.
    """

    created: str
    edgecls: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    states: list[dict[str, Any]]
    results: list[Result]
    ratios: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `benchmark --json` writes."""
        document = {"schema": SCHEMA} | {field.name: getattr(self, field.name) for field in fields(self)}
        results = [asdict(result) for result in self.results]
        for result in results:
            result["samples_ms"] = [round(sample, SAMPLE_DIGITS) for sample in result["samples_ms"]]
        return document | {"results": results}


def find_ratio(record: Record, slow: int, fast: int) -> Ratio | None:
    """Return how many times slower one result is than another, by their places; None if they took no turns."""
    for pair in record.ratios:
        if (pair["slow"], pair["fast"]) == (slow, fast):
            return Ratio(pair["ratio"], pair["low"], pair["high"])
        if (pair["slow"], pair["fast"]) == (fast, slow):
            return Ratio(1 / pair["ratio"], 1 / pair["high"], 1 / pair["low"])
    return None


def write_record(record: Record, path: Path) -> None:
    """Write the JSON file of a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = record.to_json()
    # One line a key would make a thousand lines of samples.
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
        raise BenchmarkError(f"{path} is no JSON or damaged ({error}); measure again with --json") from error
    return parse_record(document, str(path))


def parse_record(document: Any, name: str) -> Record:
    """Return the record in a JSON document; `name` is for messages.

    Raises:
        BenchmarkError: damaged, or of a newer edgecls.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BenchmarkError(f"{name} is no benchmark of edgecls: its schema is {schema!r}; measure again with --json")
    if schema > SCHEMA:
        raise BenchmarkError(f"{name} has schema {schema}, this edgecls knows {SCHEMA}; upgrade edgecls")
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
    values = {field.name: raw[field.name] for field in fields(Result)}
    check(values, Result, "a result")
    result = Result(**values)
    times = result.turns
    if missing := [key for key in MODEL_KEYS if key not in result.model]:
        raise ValueError(f"model lacks {', '.join(missing)}")
    check(result.model, _Model, "model")
    if times.size == 0 or not all(math.isfinite(time) and time > 0 for time in times.ravel()):
        raise ValueError("samples_ms must be numbers above 0")
    return result
