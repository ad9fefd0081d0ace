"""MLPerf's own yardstick: LoadGen asks an exported file for answers, as it asks systems that are submitted to MLPerf.

LoadGen decides which image is asked for and when, and takes the time. Its clock runs from before a query is handed to
Python to when Python has told it of the answer, so that its times hold what a Python callback costs: some
microseconds, which `LoadgenResult.callback_us` is. Ours begin and end around the same call of the engine.

This is no MLPerf result: those are reviewed, on networks and data that MLPerf prescribes.
"""

from __future__ import annotations

import gc
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark.measure import Summary, summarize, time_calls, warm_up
from edgecls.benchmark.record import BenchmarkError
from edgecls.errors import ConfigError, DataError, MissingDependency
from edgecls.runtime.classifier import load
from edgecls.versions import tool_versions

Scenario = Literal["single-stream", "offline"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
SECONDS = 10.0
WARM_UP_S = 5.0
TURN_CALLS = 20
# LoadGen draws its queries beforehand: with too few, it ends before its time and calls the run invalid.
EXPECTED_SHARE, EXPECTED_RATE = 0.5, 1.3
_SUMMARY = "mlperf_log_summary.txt"
_P50, _P90, _P99 = (f"{percent}.00 percentile latency (ns)" for percent in (50, 90, 99))
_MEAN, _MEAN_RATE, _RATE = "Mean latency (ns)", "QPS w/o loadgen overhead", "Samples per second"


@dataclass(frozen=True)
class Figures:
    """What LoadGen says of a run.

    Attributes:
        scenario: a name in `SCENARIOS`.
        valid: True if LoadGen itself calls it valid.
        causes: what is missing if not, in its own words.
        p50_ms: median time of a query; None if offline, where all are asked at once and wait for each other.
        p90_ms: 90 % of the queries took at most as long; this is what MLPerf reports in single-stream.
        p99_ms: 99 % did.
        mean_ms: mean.
        per_second: images a second.
        summary: all of LoadGen's own summary.
    """

    scenario: str
    valid: bool
    causes: tuple[str, ...]
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    per_second: float
    summary: str


@dataclass(frozen=True)
class LoadgenResult:
    """One file in one engine, timed by LoadGen and by us.

    Attributes:
        file: its name.
        engine: a name in `engines.ENGINES`.
        engine_version: of the engine's package.
        threads: of the engine.
        loadgen_version: of mlcommons-loadgen.
        loadgen: its figures.
        ours: half of it measured before LoadGen's run and half after it.
        callback_us: median time of a query that is answered with nothing, by LoadGen's clock.
    """

    file: str
    engine: str
    engine_version: str
    threads: int
    loadgen_version: str
    loadgen: Figures
    ours: Summary
    callback_us: float


def run_loadgen(
    file: Path,
    images: NDArray[np.uint8],
    scenario: Scenario = "single-stream",
    engine: str | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
) -> LoadgenResult:
    """Return LoadGen's figures of an exported file beside ours.

    Args:
        file: that `edgecls export` wrote.
        images: uint8 (N, H, W, 1), 0..255, ready for the network; LoadGen draws among them.
        scenario: "single-stream" asks for one image after the other, "offline" for all at once.
        engine: as `edgecls.load` takes it.
        threads: likewise.
        seconds: that LoadGen measures at least, and we about.

    Raises:
        BenchmarkError: LoadGen wrote no summary that can be read.
        ConfigError: an unknown scenario.
        DataError: no images, or not as the network takes them.
        EdgeclsError: as `edgecls.load` raises it.
        MissingDependency: LoadGen is not installed.
    """
    _check(scenario, images)
    with load(file, engine=engine, threads=threads) as classifier:
        classifier.scores(images[:1])
        answer = answer_with(classifier.engine.run, images)
        call_ms = warm_up(_cycle(answer, len(images)), WARM_UP_S).call_ms
        callback_ms = drive(lambda index: None, len(images), "single-stream", 0.1, 1e-3).p50_ms
        before = time_ours(answer, len(images), seconds / 2)
        figures = drive(answer, len(images), scenario, seconds, call_ms)
        after = time_ours(answer, len(images), seconds / 2)
        opened = classifier.engine
    return LoadgenResult(
        file=Path(file).name,
        engine=opened.name,
        engine_version=opened.version,
        threads=opened.threads,
        loadgen_version=tool_versions("mlcommons-loadgen").get("mlcommons-loadgen", ""),
        loadgen=figures,
        ours=summarize(np.concatenate([before, after])),
        callback_us=(callback_ms or 0) * 1e3,
    )


def answer_with(run: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> Callable[[int], object]:
    """Return what answers the query for an image: both clocks time this, and nothing else."""
    ready = [np.ascontiguousarray(images[i : i + 1]) for i in range(len(images))]
    return lambda index: run(ready[index])


def time_ours(answer: Callable[[int], object], count: int, seconds: float) -> NDArray[np.float64]:
    """Return our times of about as many seconds in ms, float64 (turns, calls).

    Args:
        answer: to a query for the image of that number.
        count: of images.
        seconds: to measure.
    """
    action = _cycle(answer, count)
    turns: list[NDArray[np.float64]] = []
    end = time.perf_counter() + seconds
    with _no_garbage():
        while not turns or time.perf_counter() < end:
            turns.append(time_calls(action, TURN_CALLS))
    return np.array(turns)


def drive(answer: Callable[[int], object], count: int, scenario: Scenario, seconds: float, call_ms: float) -> Figures:
    """Return LoadGen's figures of what answers its queries.

    Args:
        answer: to a query for the image of that number.
        count: of images.
        scenario: a name in `SCENARIOS`.
        seconds: that LoadGen measures at least.
        call_ms: what one answer takes, about.

    Raises:
        BenchmarkError: LoadGen wrote no summary that can be read.
        MissingDependency: LoadGen is not installed.
    """
    lg = _import_loadgen()
    errors: list[BaseException] = []

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            try:
                if not errors:
                    answer(sample.index)
            # Whatever it is, Ctrl-C too: LoadGen aborts the process if a run breaks off and another one begins.
            except BaseException as error:  # noqa: BLE001
                errors.append(error)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    with tempfile.TemporaryDirectory() as folder, _no_garbage():
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(count, count, lambda indices: None, lambda indices: None)
        try:
            # It would otherwise look for settings in the current folder.
            audit = str(Path(folder, "audit.config"))
            lg.StartTestWithLogSettings(
                system, library, _settings(lg, scenario, seconds, call_ms), _log(lg, folder), audit
            )
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        if errors:
            raise errors[0]
        path = Path(folder, _SUMMARY)
        return parse_summary(path.read_text(encoding="utf-8") if path.exists() else "")


def parse_summary(text: str) -> Figures:
    """Return what a summary says that LoadGen wrote to mlperf_log_summary.txt.

    Raises:
        BenchmarkError: none of the scenarios, or figures are missing.
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
    advice = takewhile(lambda line: line.startswith(" *"), text.partition("Recommendations:\n")[2].splitlines())
    valid = fields.get("Result is") == "VALID"
    causes = () if valid else (*(f"{name}: no" for name in missing), *(line.strip(" *") for line in advice))
    return Figures(scenario, valid, causes, p50, p90, p99, mean, float(rate), text)


def _check(scenario: str, images: NDArray[np.uint8]) -> None:
    if scenario not in SCENARIOS:
        raise ConfigError(f"MLPerf scenario {scenario!r} is not known; these are: {', '.join(SCENARIOS)}")
    if not len(images):
        raise DataError("LoadGen needs at least 1 image; received none")


def _import_loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingDependency(
            f"LoadGen cannot be imported ({error}); pip install 'edgecls[mlperf]' (on ARM it is built, with a compiler)"
        ) from error
    return mlperf_loadgen


def _settings(lg: Any, scenario: Scenario, seconds: float, call_ms: float) -> Any:
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = lg.TestScenario.SingleStream if scenario == "single-stream" else lg.TestScenario.Offline
    settings.min_duration_ms = round(seconds * 1e3)
    settings.single_stream_expected_latency_ns = max(1, round(call_ms * 1e6 * EXPECTED_SHARE))
    settings.offline_expected_qps = 1e3 / call_ms * EXPECTED_RATE
    return settings


def _log(lg: Any, folder: str) -> Any:
    settings, output = lg.LogSettings(), lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    settings.log_output = output
    # Writing an entry a query would take time from the core that is measured.
    settings.enable_trace = False
    return settings


def _cycle(answer: Callable[[int], object], count: int) -> Callable[[], object]:
    """Return what answers for one image after the other, over and over."""
    index = -1

    def action() -> object:
        nonlocal index
        index = (index + 1) % count
        return answer(index)

    return action


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep Python from collecting garbage meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
