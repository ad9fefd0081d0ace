"""Processes that are ended at any moment, meet on one folder, lack a package or see the clock jump.

For `test_ended_at_random_moments`, a command that writes files is one entry in `COMMANDS`.
"""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from places import SECONDS, TINY, check_exports, hiding, run, start
from training_run import make_images

from edgecls.config import TrainConfig
from edgecls.files import locked
from edgecls.training.run.run_folder import load_model, read_history, read_whole_record
from edgecls.training.run.work_folder import work_folder
from edgecls.training.train import train

pytestmark = pytest.mark.faults
EXPORT = ("--format", "tflite", "--format", "onnx", "--fp32", "--int8", "--max-drop", "1")
# What `{run}` and `{data}` stand for, what is given again to go on, and the folder that must hold whole files or none.
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "{data}", "--out", "{run}", *TINY, "--resume"),
    "export": ("export", "{run}", *EXPORT),
}
ROUNDS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    assert run("train", data, "--out", data.parent / "run", *TINY)[0] == 0
    return data.parent / "run"


def check_whole(out: Path) -> None:
    """Check that what stands under a final name can be read."""
    if out.exists():
        read_whole_record(out)
        read_history(out)
        load_model(out)
        check_exports(out / "export")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("name", COMMANDS)
def test_ended_at_random_moments(name: str, number: signal.Signals, data: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if name != "train":
        shutil.copytree(trained, out)
    arguments = [word.format(data=data, run=out) for word in COMMANDS[name]]
    began = time.monotonic()
    assert run(*arguments)[0] == 0
    duration = time.monotonic() - began
    moments = random.Random(name)
    for _ in range(ROUNDS):
        if name == "train":
            shutil.rmtree(out, ignore_errors=True)
        with start(arguments) as process:
            try:
                # Importing TensorFlow takes the first half.
                process.wait(moments.uniform(0.4, 1) * duration)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            errors = process.communicate(timeout=SECONDS)[1]
        assert "Traceback" not in errors, errors
        # Before the command begins and after it is done, SIGTERM ends Python as it ends every program.
        expected = {0, -signal.SIGKILL} if number == signal.SIGKILL else {0, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert process.returncode in expected, errors
        if process.returncode == 128 + signal.SIGTERM:
            assert "Terminated!" in errors
            assert not list((out / "export").glob(".partial-*"))
        check_whole(out)
    assert run(*arguments)[0] == 0
    check_whole(out)
    assert not work_folder(out).exists() and not list((out / "export").glob(".partial-*"))


def test_sigterm_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    work = work_folder(tmp_path / "run")
    command = ["train", data, "--out", tmp_path / "run", *TINY, "--epochs", "5000", "--patience", "5000"]
    with start(command) as process:
        while not list(work.glob("checkpoint-*")) and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Nothing is lost. Resume with: edgecls train" in errors and errors.endswith("Terminated!\n")


def test_two_exports_into_one_folder(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    out.mkdir()
    with locked(out, wait=False):
        status, errors = run("export", trained, *EXPORT, "--out", out)
    assert list(out.iterdir()) == []
    with (
        start(["export", trained, *EXPORT, "--out", out]) as one,
        start(["export", trained, *EXPORT, "--out", out]) as two,
    ):
        ends = [process.communicate(timeout=SECONDS) and process.returncode for process in (one, two)]
    assert 0 in ends and set(ends) <= {0, 2}
    assert status == 2 and f"another process is exporting into {out}; wait for it" in errors, errors
    check_exports(out)


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("tensorflow", ("train", "{data}", "--out", "{new}")),
        ("tensorflow", ("export", "{run}")),
        ("tf2onnx", ("export", "{run}", "--format", "onnx", "--out", "{new}")),
        ("onnxruntime", ("export", "{run}", "--format", "onnx", "--out", "{new}")),
        ("ai_edge_litert", ("export", "{run}", "--format", "tflite", "--out", "{new}")),
        ("matplotlib", ("report", "{run}")),
        ("matplotlib", ("train", "{data}", "--out", "{new}", *TINY)),
        ("jinja2", ("report", "{run}")),
    ],
)
def test_a_missing_package_is_named(
    missing: str, command: tuple[str, ...], data: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "modules").mkdir()
    words = [word.format(data=data, run=trained, new=tmp_path / "new") for word in command]
    status, errors = run(*words, **hiding(tmp_path / "modules", missing))
    assert status == 1 and "pip install" in errors, errors
    assert not list(tmp_path.glob("new/*"))


def test_a_clock_that_jumps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forth, a day back, years forth: training ends the same, its seconds stay what they were."""
    config = TrainConfig(arch="cnn", image_size=16, filters=(4, 8), hidden=(8,), epochs=10, time_budget_s=3600)
    train(data, tmp_path / "steady", config)
    real, jumps = time.time, itertools.cycle([3600, -86_400, 10**8, -(10**9), 0])
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    record = train(data, tmp_path / "jumping", config).record
    assert 0 < record["seconds"] < SECONDS
    for one, other in zip(
        load_model(tmp_path / "steady").get_weights(), load_model(tmp_path / "jumping").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
