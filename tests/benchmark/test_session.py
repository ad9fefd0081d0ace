"""The parent's part, with workers that answer what a test prescribes: nothing is timed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import BATCH, MACHINE, OPENED, PACED, fake_command, make_state

from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import BenchmarkError, Record, parse_record
from edgecls.benchmark.session import run_benchmark
from edgecls.errors import ConfigError, MissingDependency

ONE = (Configuration("a.tflite", threads=1),)
TWO = (*ONE, Configuration("b.tflite", threads=1))
SHORT = Settings(seconds=1)


def run(configurations: tuple[Configuration, ...] = ONE, settings: Settings = SHORT, **answers: Any) -> Record:
    return run_benchmark(configurations, settings, command=fake_command(**answers))


def test_a_valid_run() -> None:
    record = run()
    (result,) = record.results
    assert (result.valid, result.causes, result.warnings) == (True, [], [])
    # Ten calls of 10 ms make a batch; ten batches are the least.
    assert (result.n, result.calls_per_batch, result.batches.shape) == (100, 10, (10, 10))
    assert result.p50_ms == pytest.approx(10.0045)
    assert (result.load_ms, result.first_ms, result.peak_rss_mb, result.base_rss_mb) == (30, 12, 61, 30)
    assert result.observed == pytest.approx({"wall_s": 5, "own_s": 5, "busy_s": 5, "steal_s": 0, "waited_s": 0})
    assert record.machine == MACHINE
    assert record.settings == {"scope": "invoke", "seconds": 1, "fps": None, "seed": 0}
    assert parse_record(json.loads(json.dumps(record.to_json())), "new.json").to_json() == record.to_json()


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ({"open": OPENED | {"device": "cuda"}}, "fallback provider"),
        ({"open": OPENED | {"threads": 8}, "describe": MACHINE | {"allowed_cpus": [0]}}, "oversubscribed threads"),
        ({"batch": BATCH | {"call_ms": 10, "own_s": 0.25, "waited_s": 0.25}}, "contention"),
        ({"batch": BATCH | {"call_ms": 10, "steal_s": 0.25}}, "contention"),
        ({"state": [asdict(make_state()), asdict(make_state(firmware=0x4)), asdict(make_state())]}, "throttled"),
        ({"state": [asdict(make_state()), asdict(make_state(firmware=0x40000))]}, "throttled"),
        ({"state": [asdict(make_state(governors={"cpu0": "powersave"}))]}, "governor"),
        # So slow that patience ends first.
        ({"batch": BATCH | {"call_ms": 10, "wall_s": 30, "own_s": 30, "busy_s": 30}}, "too few samples"),
    ],
)
def test_injected_problems_are_found(answers: dict[str, Any], cause: str) -> None:
    (result,) = run(**answers).results
    assert not result.valid
    assert cause in result.causes
    assert any(warning.startswith(f"{cause}: ") for warning in result.warnings)


def test_the_machine_is_watched_before_meanwhile_and_after() -> None:
    states = [asdict(make_state(at_s=float(second))) for second in range(50)]
    seconds = [state["at_s"] for state in run(state=states).states]
    # Five seconds are measured, a look each.
    assert seconds == [float(second) for second in range(len(seconds))]
    assert 6 <= len(seconds) <= 8


def test_configurations_alternate_and_are_compared_in_pairs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = fake_command(log, open={"a.tflite": OPENED, "b.tflite": OPENED | {"engine": "openvino"}})
    record = run_benchmark(TWO, SHORT, command=command)
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert [each["file"] for each in asked if each["do"] == "open"] == ["a.tflite", "b.tflite"]
    assert Counter(each["do"] for each in asked)["batch"] == 20
    # All have warmed up before the first is measured.
    commands = [each["do"] for each in asked]
    assert commands.index("batch") > max(place for place, each in enumerate(commands) if each == "warm_up")
    assert [result.engine for result in record.results] == ["litert", "openvino"]
    (ratio,) = record.ratios
    assert ratio == {"slow": 0, "fast": 1, "ratio": 1, "low": 1, "high": 1}


@pytest.mark.parametrize(("call_ms", "calls"), [(0.01, 200), (1, 100), (10, 10), (80, 5)])
def test_a_batch_is_a_tenth_of_a_second_within_limits(call_ms: float, calls: int) -> None:
    record = run(warm_up={"calls": 9, "steady": True, "call_ms": call_ms})
    assert record.results[0].calls_per_batch == calls
    assert record.results[0].n >= 100


def test_seconds_are_measured_at_least() -> None:
    assert run(settings=Settings(seconds=8)).results[0].n == 160


def test_loading_is_measured_in_new_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = run_benchmark(TWO, Settings(scope="load"), command=fake_command(log))
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert Counter(each["do"] for each in asked)["open"] == 40
    assert {each["scope"] for each in asked if each["do"] == "open"} == {"load"}
    assert all((result.n, result.p50_ms, result.valid) == (20, 30, True) for result in record.results)
    assert len(record.ratios) == 1


def test_a_camera() -> None:
    record = run(TWO, Settings(fps=30, seconds=5))
    assert [result.paced for result in record.results] == [PACED, PACED]
    assert (record.results[0].n, record.results[0].fps, record.ratios) == (150, 30, [])


def test_progress_is_reported() -> None:
    reported: list[tuple[str, int, int]] = []
    run_benchmark(ONE, SHORT, command=fake_command(), progress=lambda *each: reported.append(each[:3]))
    assert reported[0] == ("loading and warming up", 1, 1)
    assert reported[-1] == ("measuring", 100, 100)
    assert [done for _, done, _ in reported[1:]] == sorted(done for _, done, _ in reported[1:])


def test_errors_of_a_worker_keep_their_class() -> None:
    with pytest.raises(MissingDependency, match="^pip install something$"):
        run(open={"error": "MissingDependency", "text": "pip install something"})


def test_nothing_to_measure_and_no_images_are_errors() -> None:
    with pytest.raises(ConfigError, match="no file"):
        run(())
    with pytest.raises(ConfigError, match="--images"):
        run(settings=Settings(scope="end-to-end"))


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match=r"(?s)ended during 'batch'.*KeyError"):
        run(batch={})
