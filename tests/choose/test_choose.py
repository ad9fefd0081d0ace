"""The whole way on the tiny run, in the real engines and processes; what each step does is tested at the step."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from choices import FakeMachine, rewrite
from command_line import run as edgecls
from command_line import run_process

from edgecls.boards.profiles import load_profile
from edgecls.choose import candidates, choose, int8_gain, rounds
from edgecls.choose.choice import Choice
from edgecls.choose.choose import choose_run, needs_export
from edgecls.config import ExportConfig
from edgecls.export.artifact import ExportResult, export_run
from edgecls.profiling.profile import OperatorTimes

FILES = [f"model-{precision}.{kind}" for precision in ("fp32", "fp16", "int8") for kind in ("tflite", "onnx")]


@pytest.fixture(scope="module")
def six_files(tiny_run: Path, tiny_export: ExportResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every precision and format."""
    folder = tmp_path_factory.mktemp("six") / "export"
    shutil.copytree(tiny_export.folder, folder)
    export_run(tiny_run, ExportConfig(precisions=("fp16",), max_drop=1), out=folder)
    return folder


@pytest.fixture
def chosen_run(tmp_path: Path, tiny_run: Path, six_files: Path) -> Path:
    """A run with all its files."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copytree(six_files, run / "export")
    return run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Times are known, so that what is chosen is; the int8 ONNX file is the fastest."""
    machine = FakeMachine({name: 3.0 + place for place, name in enumerate(FILES)} | {"model-int8.onnx": 1.0})
    monkeypatch.setattr(rounds, "run_benchmark", machine.run)
    monkeypatch.setattr(candidates, "default_threads", lambda: 1)
    return machine


def check_document(document: dict[str, Any], run: Path) -> None:
    best, rows = document["recommended"], document["candidates"]
    assert {Path(row["file"]).name for row in rows} == set(FILES)
    assert {row["engine"] for row in rows if row["p50_ms"]} == {"litert", "onnxruntime", "openvino"}
    near = [row for row in rows if row["p50_ms"] and row["round"] == "long" and row["valid"] == best["valid"]]
    assert best["p50_ms"] == min(row["p50_ms"] for row in near) and len(near) > 0
    assert [row["rejected_because"] is None for row in rows].count(True) == 1
    assert "int8" in document["int8"]
    assert json.loads((run / "deploy" / "choose.json").read_text())["recommended"] == best
    script = (run / "deploy" / "predict.py").read_text()
    assert f'engine="{best["engine"]}", threads={best["threads"]}' in script


@pytest.mark.slow
def test_a_real_choice(chosen_run: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "default_threads", lambda: 1)
    done = edgecls("choose", chosen_run, tiny_data, "--seconds", 0.1, "--max-drop", 1, "--json")
    assert done.exit_code == 0
    check_document(json.loads(done.stdout), chosen_run)


@pytest.mark.slow
def test_a_real_choice_with_exports_in_a_process_of_its_own(run_copy: Path, tiny_data: Path) -> None:
    done = run_process("choose", run_copy, tiny_data, "--seconds", 0.1, "--max-drop", 1, "--json")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    check_document(json.loads(done.stdout), run_copy)


def test_the_command_prints_and_writes(chosen_run: Path, tiny_data: Path, machine: FakeMachine, tmp_path: Path) -> None:
    out = tmp_path / "ship"
    done = edgecls("choose", chosen_run, tiny_data, "--max-drop", 1, "--out", out, "--seconds", 2)
    assert done.exit_code == 0
    assert "Recommended: model-int8.onnx in " in done.stdout
    assert "int8 is the fastest" in done.stdout and f"Folder to copy to the board: {out}" in done.stdout
    *_, command = done.stdout.splitlines()
    assert all(Path(path).is_file() for path in shlex.split(command)[2:])
    assert (out / "model-int8.onnx").is_file() and machine.seconds[-1] == 2
    (out / "mine.txt").write_text("mine")
    rounds_before = len(machine.rounds)
    done = edgecls("choose", chosen_run, tiny_data, "--max-drop", 1, "--out", out)
    assert done.exit_code == 2 and "--overwrite" in done.stderr
    assert len(machine.rounds) == rounds_before and (out / "mine.txt").is_file()


def test_for_another_board_there_is_a_warning(chosen_run: Path, tiny_data: Path, machine: FakeMachine) -> None:
    # As if exported for a Pi.
    for path in (chosen_run / "export").glob("model-int8.*"):
        rewrite(path, target="arm64")
    done = edgecls("choose", chosen_run, tiny_data, "--max-drop", 1, "--board", "raspberry-pi-4b", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["device"], document["timed_on_device"]) == ("raspberry-pi-4b", False)
    assert "times there will differ" in document["warnings"][0] and "int8 .tflite in litert" in document["warnings"][0]
    assert "times there will differ" in done.stderr
    assert not needs_export(chosen_run, load_profile("raspberry-pi-4b"), 1)
    assert needs_export(chosen_run, load_profile("desktop-x86"), 1)
    assert "raspberry-pi-4b" in (chosen_run / "deploy" / "report.md").read_text()


def test_this_machine_by_its_name_is_this_machine(
    chosen_run: Path, tiny_data: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile, own_target = load_profile("desktop-x86-vnni"), choose._target(None)
    # The files for this machine serve, so that none is exported again.
    monkeypatch.setattr(choose, "_target", lambda _: own_target)
    monkeypatch.setattr(choose, "find_profile", lambda _: profile)
    assert choose_run(chosen_run, tiny_data, profile=profile, max_drop=1).is_here
    monkeypatch.setattr(choose, "find_profile", lambda _: None)
    assert not choose_run(chosen_run, tiny_data, profile=profile, max_drop=1).is_here


def test_nothing_may_be_shipped(
    chosen_run: Path, tiny_data: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> str:
        return "refused"

    monkeypatch.setattr(candidates, "_explain_failure", refuse)
    done = edgecls("choose", chosen_run, tiny_data, "--json", "--max-drop", 1)
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["recommended"] is None and len(document["candidates"]) > 8
    assert "nothing may be shipped" in done.stderr
    assert machine.rounds == [] and not (chosen_run / "deploy").exists()


def test_without_tensorflow_it_chooses_among_what_was_copied(
    chosen_run: Path, tiny_data: Path, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecls.export.run_files.find_spec", lambda _: None)
    for path in (chosen_run / "export").glob("model-fp16.*"):
        path.unlink()
    assert needs_export(chosen_run, None, 1)
    choice: Choice = choose_run(chosen_run, tiny_data, max_drop=1)
    assert choice.winner is not None and choice.winner.candidate.file.name == "model-int8.onnx"
    reasons = {each.rejected_because for each in choice.candidates if each.precision == "fp16"}
    assert len(reasons) == 1 and "pip install 'edgecls[train]'" in reasons.pop()


def test_the_reason_why_int8_is_slower_is_given(
    chosen_run: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, machine: FakeMachine
) -> None:
    slow = FakeMachine(dict.fromkeys(FILES, 1.0) | {"model-int8.onnx": 3.0, "model-int8.tflite": 3.0})
    monkeypatch.setattr(rounds, "run_benchmark", slow.run)
    asked: list[Path] = []

    def profile_file(path: Path, *arguments: Any) -> OperatorTimes:
        asked.append(path)
        return OperatorTimes(path.name, "onnxruntime", "1.32.0", 1, "", 5.0, 5.0, ())

    monkeypatch.setattr(int8_gain, "profile_file", profile_file)
    choice = choose_run(chosen_run, tiny_data, max_drop=1)
    assert choice.int8.startswith("int8 is slower: model-int8.") and len(asked) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--board", "toaster"], 2, "Unknown board 'toaster'"),
        (["--board", ""], 2, "''"),
        (["--device", "toaster"], 2, "Unknown board 'toaster'"),
        (["--max-drop", "2"], 2, "max drop must be 0 to 1"),
        (["--seconds", "0"], 2, "seconds must be above 0"),
        (["--seconds", "much"], 2, "not a valid float"),
    ],
)
def test_wrong_usage(chosen_run: Path, tiny_data: Path, options: list[str], code: int, said: str) -> None:
    done = edgecls("choose", chosen_run, tiny_data, *options)
    assert done.exit_code == code and said in done.stderr and done.stdout == ""


def test_no_run_and_no_images(tmp_path: Path, chosen_run: Path, tiny_data: Path) -> None:
    done = edgecls("choose", tmp_path / "nothing", tiny_data)
    assert done.exit_code == 1 and "is not a run folder" in done.stderr
    done = edgecls("choose", chosen_run, tmp_path / "nothing")
    assert done.exit_code == 1 and "nothing" in done.stderr
