from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import run_all

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    for name in ("model-int8.rejected.tflite", "model-int8.onnx"):
        (tmp_path / "export" / name).touch()
    (tmp_path / "a.png").touch()
    return tmp_path


def test_every_script_is_there_and_the_long_ones_come_last(run_folder: Path) -> None:
    steps = run_all.make_steps(run_folder, run_folder, "tiles", run_folder, run_folder)
    assert all((ROOT / "benchmarks" / f"{step.script}.py").is_file() for step in steps)
    minutes = [step.minutes for step in steps]
    assert minutes[-1] == max(minutes) and sum(minutes[:5]) < sum(minutes[-5:])
    named = dict(zip((step.script for step in steps), steps, strict=True))
    assert named["versus_stock"].arguments == (run_folder, "--name", "tiles")
    assert run_folder / "export" / "model-int8.rejected.tflite" in named["cold_start"].arguments


def test_what_cannot_run_says_why(run_folder: Path) -> None:
    steps = run_all.make_steps(run_folder, run_folder, "tiles", None, None)
    skipped = {step.script: step.skip for step in steps if step.skip}
    assert "PHOTOS=folder" in skipped["decode"] and "LARGE=folder" in skipped["train_large"]
    assert "engines" not in skipped


def test_a_failure_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("raise SystemExit(3)", encoding="utf-8")
    (tmp_path / "good.py").write_text("import sys; print('got', sys.argv[1])", encoding="utf-8")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    steps = [run_all.Step("bad", 1), run_all.Step("no", 9, skip="no reason"), run_all.Step("good", 2, (Path("x"),))]
    assert run_all.run_steps(steps) == ["bad (exit code 3)"]
    shown = capfd.readouterr().out
    assert "no: skipped: no reason" in shown and "got x" in shown
    assert "bad: about 1 minutes, 3 left for all" in shown


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "run_all.py")]
    for options, said in (
        (["--run", "r"], "--run needs --data"),
        (["--run", "r", "--data", "d"], "Error: no model-int8"),
    ):
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
        )
        assert done.returncode and said in done.stderr
