"""Timing by MLPerf's LoadGen, which queries an exported file as it queries systems that are submitted to MLPerf.

LoadGen chooses the image and the moment of each query, and takes the time. Its times include the Python callback, some
microseconds, which `LoadgenResult.callback_us` holds. Ours begin and end around the same call of the engine.

This is not an MLPerf result: those are reviewed, and use networks and data that MLPerf prescribes.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark.measure import Summary, no_garbage_collection, summarize, time_calls, warm_up
from edgecls.benchmark.record import BenchmarkError
from edgecls.boards.versions import tool_versions
from edgecls.errors import ConfigError, DataError, MissingDependency
from edgecls.runtime.classifier import load

Scenario = Literal["single-stream", "offline"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
SECONDS = 10.0
WARM_UP_S = 5.0
BATCH_CALLS = 20
# LoadGen draws its queries in advance: with too few, it ends early and calls the run invalid.
EXPECTED_LATENCY, EXPECTED_RATE = 0.5, 1.3
_P50, _P90, _P99 = (f"{percent}.00 percentile latency (ns)" for percent in (50, 90, 99))
_MEAN, _MEAN_RATE, _RATE = "Mean latency (ns)", "QPS w/o loadgen overhead", "Samples per second"


@dataclass(frozen=True)
class LoadgenSummary:
    """The results that LoadGen reports for a run.

    Attributes:
        p50_ms: median time of a query; None if offline, where all queries come at once and wait for each other.
    """

    scenario: str  # a name in `SCENARIOS`
    valid: bool  # True if LoadGen calls it valid
    causes: tuple[str, ...]  # why not, in LoadGen's words
    p50_ms: float | None
    p90_ms: float | None  # 90th percentile, which MLPerf reports in single-stream
    p99_ms: float | None  # 99th percentile
    mean_ms: float | None  # mean
    per_second: float  # images per second
    summary: str  # LoadGen's whole summary


@dataclass(frozen=True)
class LoadgenResult:
    """One file in one engine, timed by LoadGen and by us."""

    file: str  # its name
    engine: str  # a name in `engines.ENGINES`
    engine_version: str  # of the engine's package
    threads: int  # of the engine
    loadgen_version: str  # of mlcommons-loadgen
    loadgen: LoadgenSummary  # its results
    ours: Summary  # our results, half of them measured before LoadGen's run and half after it
    callback_us: float  # median time of an empty query by LoadGen's clock


def run_loadgen(
    file: Path,
    images: NDArray[np.uint8],
    scenario: Scenario = "single-stream",
    engine: str | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
) -> LoadgenResult:
    """Return LoadGen's times of an exported file beside ours.

    Args:
        file: that `edgecls export` wrote.
        images: uint8 (N, H, W, 1), 0..255, ready for the network; LoadGen draws from them.
        scenario: "single-stream" asks for one image after the other, "offline" for all at once.
        engine: as `edgecls.load` takes it.
        threads: likewise.
        seconds: for LoadGen at least, and for us about.

    Raises:
        EdgeclsError: as `edgecls.load`, for unusable images, or if LoadGen is missing or wrote no readable summary.
    """
    _check_request(images, scenario)
    with load(file, engine=engine, threads=threads) as classifier:
        classifier.scores(images[:1])
        answer = answer_with(classifier.engine.run, images)
        call_ms = warm_up(_cycle(answer, len(images)), WARM_UP_S).call_ms
        callback_ms = drive(lambda index: None, len(images), "single-stream", 0.1, 1e-3).p50_ms
        before = time_ours(answer, len(images), seconds / 2)
        summary = drive(answer, len(images), scenario, seconds, call_ms)
        after = time_ours(answer, len(images), seconds / 2)
        return LoadgenResult(
            file=Path(file).name,
            engine=classifier.engine.name,
            engine_version=classifier.engine.version,
            threads=classifier.engine.threads,
            loadgen_version=tool_versions("mlcommons-loadgen").get("mlcommons-loadgen", ""),
            loadgen=summary,
            ours=summarize(np.concatenate([before, after])),
            callback_us=(callback_ms or 0) * 1e3,
        )


def _check_request(images: NDArray[np.uint8], scenario: str) -> None:
    if scenario not in SCENARIOS:
        raise ConfigError(f"MLPerf scenario must be one of {', '.join(SCENARIOS)}; received {scenario!r}")
    if not len(images):
        raise DataError("LoadGen needs at least 1 image; received none")


def answer_with(run: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> Callable[[int], object]:
    """Return a function that answers the query for an image: both clocks time this, and nothing else."""
    ready = [np.ascontiguousarray(images[i : i + 1]) for i in range(len(images))]
    return lambda index: run(ready[index])


def time_ours(answer: Callable[[int], object], count: int, seconds: float) -> NDArray[np.float64]:
    """Return our times in ms, measured for about so many seconds, float64 (batches, calls)."""
    action = _cycle(answer, count)
    batches: list[NDArray[np.float64]] = []
    end = time.perf_counter() + seconds
    with no_garbage_collection():
        while not batches or time.perf_counter() < end:
            batches.append(time_calls(action, BATCH_CALLS))
    return np.array(batches)


def drive(
    answer: Callable[[int], object], count: int, scenario: Scenario, seconds: float, call_ms: float
) -> LoadgenSummary:
    """Return LoadGen's times of `answer`, called with indices below `count`, about `call_ms` long.

    Raises:
        BenchmarkError: LoadGen wrote no readable summary.
        MissingDependency: LoadGen is not installed.
    """
    lg = _import_loadgen()
    errors: list[BaseException] = []

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            try:
                if not errors:
                    answer(sample.index)
            # Everything, also Ctrl-C: LoadGen aborts the process if a run is left and another one begins.
            except BaseException as error:  # noqa: BLE001
                errors.append(error)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    with tempfile.TemporaryDirectory() as folder, no_garbage_collection():
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
        try:
            # Without a path LoadGen looks for settings in the current folder.
            audit = str(Path(folder, "audit.config"))
            lg.StartTestWithLogSettings(
                system, library, _settings(lg, scenario, seconds, call_ms), _log(lg, folder), audit
            )
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        if errors:
            raise errors[0]
        path = Path(folder, "mlperf_log_summary.txt")
        return parse_summary(path.read_text(encoding="utf-8") if path.exists() else "")


def parse_summary(text: str) -> LoadgenSummary:
    """Return the results in the text of mlperf_log_summary.txt.

    Raises:
        BenchmarkError: an unknown scenario, or numbers are missing.
    """
    pairs = [line.split(" : ", 1) if " : " in line else line.split(":", 1) for line in text.splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in reversed(pairs)}
    scenario = {"SingleStream": "single-stream", "Offline": "offline"}.get(fields.get("Scenario", ""))
    rate = fields.get(_MEAN_RATE if scenario == "single-stream" else _RATE)
    needed = (fields.get(name) for name in (_P50, _P90, _P99, _MEAN))
    times = [float(value) / 1e6 for value in needed if value is not None]
    if scenario is None or rate is None or len(times) < 4:
        raise BenchmarkError(f"LoadGen's summary cannot be read: {text[:500]!r}; try another mlcommons-loadgen")
    p50, p90, p99, mean = times if scenario == "single-stream" else [None] * 4
    missing = re.findall(r"^ *(.+? satisfied) *: *NO$", text, re.MULTILINE)
    advice = itertools.takewhile(
        lambda line: line.startswith(" *"), text.partition("Recommendations:\n")[2].splitlines()
    )
    valid = fields.get("Result is") == "VALID"
    causes = () if valid else (*(f"{name}: no" for name in missing), *(line.strip(" *") for line in advice))
    return LoadgenSummary(scenario, valid, causes, p50, p90, p99, mean, float(rate), text)


def _import_loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingDependency(
            f"LoadGen cannot be imported ({error}); pip install 'edgecls[mlperf]' (on ARM, it needs a C++ compiler)"
        ) from error
    return mlperf_loadgen


def _settings(lg: Any, scenario: Scenario, seconds: float, call_ms: float) -> Any:
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = lg.TestScenario.SingleStream if scenario == "single-stream" else lg.TestScenario.Offline
    settings.min_duration_ms = round(seconds * 1e3)
    settings.single_stream_expected_latency_ns = max(1, round(call_ms * 1e6 * EXPECTED_LATENCY))
    settings.offline_expected_qps = 1e3 / call_ms * EXPECTED_RATE
    return settings


def _log(lg: Any, folder: str) -> Any:
    settings, output = lg.LogSettings(), lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    settings.log_output = output
    # An entry for each query would take time from the core that is measured.
    settings.enable_trace = False
    return settings


def _cycle(answer: Callable[[int], object], count: int) -> Callable[[], object]:
    """Return a function that answers for one image after the other, without end."""
    indices = itertools.cycle(range(count))
    return lambda: answer(next(indices))
