from __future__ import annotations

import gc
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import HEIGHT, WIDTH

from edgecls.benchmark import loadgen
from edgecls.benchmark.loadgen import drive, parse_summary, run_loadgen, time_ours
from edgecls.benchmark.record import BenchmarkError
from edgecls.errors import ConfigError, DataError, MissingDependency

needs_loadgen = pytest.mark.skipif(
    find_spec("mlperf_loadgen") is None, reason="LoadGen is not installed: pip install 'edgecls[mlperf]'"
)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 1), np.uint8)

# As LoadGen 6.0.17 writes them, the lower part left out.
TOO_SHORT = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : SingleStream
Mode     : PerformanceOnly
90.0th percentile latency (ns) : 1342
Result is : INVALID
  Min duration satisfied : NO
  Min queries satisfied : Yes
  Early stopping satisfied: Yes
Recommendations:
 * Decrease the expected latency so the loadgen pre-generates more queries.
Early Stopping Result:
 * Processed at least 64 queries (1001).
 * Would discard 77 highest latency queries.
 * Early stopping 90.0th percentile estimate: 1362
 * Early stopping 99.0th percentile estimate: 18789

================================================
Additional Stats
================================================
QPS w/ loadgen overhead         : 78647.24
QPS w/o loadgen overhead        : 704721.63

Min latency (ns)                : 1222
Max latency (ns)                : 39599
Mean latency (ns)               : 1419
50.00 percentile latency (ns)   : 1272
90.00 percentile latency (ns)   : 1342
95.00 percentile latency (ns)   : 1393
97.00 percentile latency (ns)   : 1533
99.00 percentile latency (ns)   : 3125
99.90 percentile latency (ns)   : 23825

================================================
Test Parameters Used
================================================
samples_per_query : 1
target_qps : 500
"""
OFFLINE = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Offline
Mode     : PerformanceOnly
Samples per second: 1.03018e+06
Result is : VALID
  Min duration satisfied : Yes
  Min queries satisfied : Yes
  Early stopping satisfied: Yes

================================================
Additional Stats
================================================
Min latency (ns)                : 1067772
Max latency (ns)                : 1067772
Mean latency (ns)               : 1067772
50.00 percentile latency (ns)   : 1067772
90.00 percentile latency (ns)   : 1067772
95.00 percentile latency (ns)   : 1067772
97.00 percentile latency (ns)   : 1067772
99.00 percentile latency (ns)   : 1067772
99.90 percentile latency (ns)   : 1067772
"""


def test_single_stream_summary_with_the_causes_of_its_invalidity() -> None:
    found = parse_summary(TOO_SHORT)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (0.001272, 0.001342, 0.003125)
    assert (found.scenario, found.mean_ms, found.per_second) == ("single-stream", 0.001419, 704721.63)
    assert not found.valid and found.causes == (
        "Min duration satisfied: no",
        "Decrease the expected latency so the loadgen pre-generates more queries.",
    )
    assert found.summary == TOO_SHORT


def test_offline_summary_has_a_rate_and_no_latencies() -> None:
    found = parse_summary(OFFLINE)
    assert (found.scenario, found.per_second, found.valid, found.causes) == ("offline", 1030180, True, ())
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.mean_ms) == (None,) * 4


@given(st.lists(st.integers(1, 10**12), min_size=4, max_size=4), st.booleans())
def test_any_numbers_are_read(ns: list[int], valid: bool) -> None:
    text = TOO_SHORT
    for old, new in zip((" 1272", " 1342\n95", " 3125", " 1419"), ns, strict=True):
        text = text.replace(old, f" {new}" + old[5:])
    found = parse_summary(text.replace("INVALID", "VALID" if valid else "INVALID"))
    assert [found.p50_ms, found.p90_ms, found.p99_ms, found.mean_ms] == [each / 1e6 for each in ns]
    assert found.valid is valid and bool(found.causes) is not valid


@pytest.mark.parametrize("lost", ["Scenario", "50.00 percentile", "QPS w/o", "Mean latency"])
def test_summary_without_a_number_is_an_error(lost: str) -> None:
    lines = [line for line in TOO_SHORT.splitlines() if not line.startswith(lost)]
    with pytest.raises(BenchmarkError, match="summary cannot be read"):
        parse_summary("\n".join(lines))
    with pytest.raises(BenchmarkError, match="received|''"):
        parse_summary("")


def busy(ms: float) -> None:
    end = time.perf_counter() + ms / 1e3
    while time.perf_counter() < end:
        pass


@needs_loadgen
def test_every_image_is_asked_for_and_its_time_taken() -> None:
    asked: list[int] = []

    def answer(index: int) -> None:
        asked.append(index)
        busy(1)

    figures = drive(answer, 5, "single-stream", 0.3, 1)
    assert set(asked) == set(range(5))
    assert figures.p50_ms is not None and 1 <= figures.p50_ms < 3
    assert figures.valid, figures.causes
    # LoadGen alone decides what is asked for: at least so many, of this length.
    assert len(asked) >= 100


@needs_loadgen
def test_ours_and_loadgens_times_hold_the_same_work() -> None:
    fast, slow = (drive(lambda index, ms=ms: busy(ms), 3, "single-stream", 0.2, ms).p50_ms for ms in (0.5, 2))  # type: ignore[misc]
    assert fast is not None and slow is not None
    # A busy machine makes both longer, never shorter.
    assert fast >= 0.5 and slow >= 2 and slow > fast
    ours = time_ours(lambda index: busy(2), 3, 0.2)
    assert ours.shape[1] == loadgen.BATCH_CALLS
    assert float(ours.min()) >= 2


@needs_loadgen
def test_a_run_that_ends_early_is_not_valid() -> None:
    figures = drive(lambda index: None, 3, "single-stream", 0.5, 50)
    assert not figures.valid and "Min duration satisfied: no" in figures.causes


@needs_loadgen
@pytest.mark.parametrize(
    ("fixture", "engine", "scenario"),
    [("tiny_tflite", "litert", "single-stream"), ("tiny_onnx", "onnxruntime", "offline")],
)
def test_real_files_in_their_engines(
    fixture: str,
    engine: str,
    scenario: Any,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loadgen, "WARM_UP_S", 0.2)
    monkeypatch.chdir(tmp_path)
    found = run_loadgen(request.getfixturevalue(fixture), IMAGES, scenario, threads=1, seconds=0.2)
    assert (found.engine, found.threads, found.loadgen.scenario) == (engine, 1, scenario)
    assert found.loadgen_version and found.engine_version
    assert 0 < found.callback_us < 1000
    assert found.loadgen.per_second == pytest.approx(found.ours.per_second, rel=0.9)
    # LoadGen writes its logs, and would read a file of settings, in the current folder.
    assert list(tmp_path.iterdir()) == []


@needs_loadgen
def test_an_error_of_the_engine_comes_through_and_the_collector_is_back() -> None:
    def fail(index: int) -> None:
        assert not gc.isenabled()
        raise ValueError("no answer")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="no answer"):
        drive(fail, 3, "single-stream", 0.1, 1)
    assert gc.isenabled()
    assert drive(lambda index: None, 3, "single-stream", 0.05, 0.001).per_second > 0


def test_what_cannot_be_run_is_refused(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must be one of single-stream, offline; received 'server'"):
        run_loadgen(tiny_tflite, IMAGES, "server")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 1 image; received none"):
        run_loadgen(tiny_tflite, IMAGES[:0])
    with pytest.raises(DataError, match=r"must be uint8 \(N, 12, 10, 1\); received"):
        run_loadgen(tiny_tflite, IMAGES[:, 1:])
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[mlperf\]'"):
        drive(lambda index: None, 1, "offline", 1, 1)


@settings(max_examples=10)
@given(count=st.integers(1, 7))
def test_our_loop_asks_for_one_image_after_the_other(count: int) -> None:
    asked: list[int] = []
    time_ours(asked.append, count, 0)
    assert asked == [i % count for i in range(loadgen.BATCH_CALLS)]
