from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import make_record, make_result, make_times, write_model
from command_line import run, run_process
from PIL import Image

from edgecls.benchmark import loadgen, session
from edgecls.benchmark.measure import summarize
from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import Record, read_record, write_record


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


class Stage:
    """Stands in for measuring: `record` is what is found, the other two what was asked."""

    def __init__(self) -> None:
        self.record = make_record()
        self.asked: Sequence[Configuration] = ()
        self.settings = Settings()

    def run(self, configurations: Sequence[Configuration], settings: Settings, **_: Any) -> Record:
        self.asked, self.settings = configurations, settings
        return self.record


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(session, "run_benchmark", stage.run)
    return stage


def test_the_table_is_the_result(stage: Stage, model: Path) -> None:
    done = run("benchmark", model)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "p50 ms" in done.stdout and "Raspberry Pi 4" in done.stdout
    assert stage.asked == (Configuration(str(model)),)
    assert stage.settings == Settings()


def test_options_reach_the_measurement(stage: Stage, model: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    options = ("--engine", "ort", "--engine", "openvino", "--threads", "1,4", "--device", "cpu")
    done = run("benchmark", model, *options, "--scope", "end-to-end", "--seconds", 2, "--fps", 30, "--images", tmp_path)
    assert done.exit_code == 0
    assert [(each.engine, each.threads) for each in stage.asked] == [
        (engine, threads) for engine in ("onnxruntime", "openvino") for threads in (1, 4)
    ]
    assert {each.images for each in stage.asked} == {(str(tmp_path / "a.png"),)}
    assert stage.settings == Settings(scope="end-to-end", seconds=2, fps=30)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--threads", "1,x"], 2, "'x' is not a valid integer"),
        (["--threads", "0"], 2, "threads must be 1"),
        (["--seconds", "0"], 2, "seconds must be above 0"),
        (["--scope", "all"], 2, "Invalid value"),
        (["--scope", "load", "--fps", "5"], 2, "leave one out"),
        (["--engine", "litert"], 2, "cannot run onnx files"),
        (["--compare", "none.json"], 1, "no such file"),
        (["--images", "/nowhere"], 1, "no image in"),
        (["--profile", "--device", "cuda"], 2, "--profile does not use --device"),
        (["--profile", "--compare", "old.json"], 2, "--profile does not use --compare"),
        (["--profile", "--mlperf", "offline"], 2, "--profile does not use --mlperf"),
        (["--profile", "--seconds", "nan"], 2, "seconds must be above 0"),
        (["--mlperf", "offline", "--images", ".", "--scope", "load"], 2, "--mlperf does not use --scope"),
        (["--mlperf", "offline", "--images", ".", "--plot", "a.png"], 2, "--mlperf does not use --plot"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(
    stage: Stage, model: Path, options: list[str], code: int, said: str
) -> None:
    done = run("benchmark", model, *options)
    assert done.exit_code == code
    assert said in done.stderr and done.stdout == ""
    assert stage.asked == ()


def test_an_invalid_result_is_reported(stage: Stage, model: Path) -> None:
    invalid: dict[str, Any] = {"valid": False, "causes": ["throttled"], "warnings": ["throttled: too hot"]}
    stage.record = make_record(make_result(), make_result(file="b.tflite", **invalid))
    done = run("benchmark", model)
    assert done.exit_code == 0
    assert "no: throttled" in done.stdout and "throttled: too hot (b.tflite" in done.stdout
    assert "Warning: 1 of 2 results are not valid: throttled" in done.stderr


def test_json_markdown_and_plot(stage: Stage, model: Path, tmp_path: Path) -> None:
    done = run("benchmark", model, "--json", tmp_path / "a" / "new.json", "--plot", tmp_path / "b.png", "--markdown")
    assert done.exit_code == 0
    assert done.stdout.startswith("| file | engine |")
    assert read_record(tmp_path / "a" / "new.json").to_json() == stage.record.to_json()
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    done = run("benchmark", model, "--json", "-")
    assert json.loads(done.stdout)["schema"] == 2


def test_a_plot_without_matplotlib_is_refused_before_minutes_pass(
    stage: Stage, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecls.cli.benchmark.find_spec", lambda _: None)
    done = run("benchmark", model, "--plot", "a.png")
    assert (done.exit_code, stage.asked) == (2, ())
    assert "pip install matplotlib" in done.stderr


@pytest.mark.parametrize(("median", "code", "said"), [(2.4, 1, "slower"), (2.0, 0, "no different"), (1.6, 0, "faster")])
def test_a_slowdown_of_a_fifth_exits_with_1(
    stage: Stage, model: Path, tmp_path: Path, median: float, code: int, said: str
) -> None:
    write_record(make_record(make_result(make_times(2))), tmp_path / "old.json")
    stage.record = make_record(make_result(make_times(median, seed=1)))
    done = run("benchmark", model, "--compare", tmp_path / "old.json")
    assert done.exit_code == code
    assert said in done.stdout
    assert ("slower than before, beyond the noise: model-int8.tflite" in done.stderr) == bool(code)
    # A document on stdout stays one.
    done = run("benchmark", model, "--compare", tmp_path / "old.json", "--json", "-")
    assert json.loads(done.stdout) and said in done.stderr and done.exit_code == code


def test_unlike_runs_are_refused_unless_forced(stage: Stage, model: Path, tmp_path: Path) -> None:
    write_record(make_record(make_result(scope="end-to-end")), tmp_path / "old.json")
    done = run("benchmark", model, "--compare", tmp_path / "old.json")
    assert done.exit_code == 1
    assert "scope was 'end-to-end', is 'invoke'" in done.stderr and "--force" in done.stderr
    assert run("benchmark", model, "--compare", tmp_path / "old.json", "--force").exit_code == 0


def test_a_result_that_is_not_in_the_old_file_is_reported(stage: Stage, model: Path, tmp_path: Path) -> None:
    write_record(make_record(), tmp_path / "old.json")
    stage.record = make_record(make_result(), make_result(threads=4))
    done = run("benchmark", model, "--compare", tmp_path / "old.json")
    assert done.exit_code == 0
    assert "not in the old file: model-int8.tflite in litert, threads: 4" in done.stderr


def test_a_real_run(model: Path, tmp_path: Path) -> None:
    options = ("--seconds", 0.1, "--threads", "1", "--json", tmp_path / "new.json")
    done = run_process("benchmark", model, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (result,) = json.loads((tmp_path / "new.json").read_text())["results"]
    assert (result["engine"], result["threads"], result["scope"]) == ("onnxruntime", 1, "invoke")
    assert result["n"] == len(result["samples_ms"]) >= 100
    again = run_process("benchmark", model, *options, "--compare", tmp_path / "new.json", "--force")
    assert again.returncode in (0, 1)
    assert "new / old" in again.stdout


@pytest.mark.parametrize("valid", [True, False])
def test_times_that_loadgen_calls_invalid_are_reported(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: bool
) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    summary = loadgen.LoadgenSummary("offline", valid, ("Min duration satisfied: no",), None, None, None, None, 9.0, "")
    found = loadgen.LoadgenResult("a.onnx", "onnxruntime", "1", 1, "5", summary, summarize(make_times()), 1.0)
    monkeypatch.setattr(loadgen, "run_loadgen", lambda *_: found)
    done = run("benchmark", model, "--mlperf", "offline", "--images", tmp_path / "a.png")
    assert done.exit_code == 0 and "9.0 per second" in done.stdout
    assert ("times of a.onnx invalid: Min duration satisfied: no" in done.stderr) is not valid
