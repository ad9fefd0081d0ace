"""`edgecls train` killed, interrupted and resumed as a user would, in processes of its own."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from training_run import make_images

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.training.run.run_folder import load_model, read_history, read_record
from edgecls.training.run.work_folder import LOCK_FILE, has_checkpoint, work_folder
from edgecls.training.train import train

TINY = ["--arch", "cnn", "--image-size", "16", "--filters", "4,8", "--hidden", "8", "--epochs", "150"]
TINY += ["--batch-size", "4", "--patience", "150"]
PHASES = ["--weights", "none", "--alpha", "0.35", "--image-size", "32", "--augmented-copies", "1", "--batch-size", "4"]
PHASES += ["--epochs", "40", "--joint", "--unfreeze", "1", "--fine-epochs", "6", "--learning-rate", "0.01"]
EFFORT = ["--weights", "none", "--alpha", "0.35", "--image-size", "32", "--blocks", "6", "--augmented-copies", "1"]
SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Place:
    """Images, a run folder and a cache of its own."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "images"

    @property
    def out(self) -> Path:
        return self.root / "run"

    def start(self, options: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edgecls", "train", str(self.data), "--out", str(self.out), *options]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.root / "cache")}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, options: list[str]) -> None:
        process = self.start([*options, "--resume"])
        errors = process.communicate(timeout=SECONDS)[1]
        assert process.returncode == 0, errors

    def is_learning(self) -> bool:
        return has_checkpoint(work_folder(self.out))


def make_place(root: Path) -> Place:
    make_images(root / "images")
    return Place(root)


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def check_whole(out: Path) -> None:
    """Check that there is no run folder, or one that everything can be read from."""
    if out.exists():
        read_record(out)
        read_history(out)
        load_model(out)


def weights_of(out: Path) -> list[NDArray[np.float32]]:
    return list(load_model(out).get_weights())


def assert_same_run(one: Path, other: Path) -> None:
    for array, again in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(array, again)
    first, second = ([dataclasses.replace(e, seconds=0) for e in read_history(run)] for run in (one, other))
    assert first == second
    assert read_record(one)["metrics"] == read_record(other)["metrics"]


@pytest.mark.slow
def test_killed_twice_and_interrupted_once_it_ends_like_an_uninterrupted_run(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    delays = random.Random(0)
    for sent in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        known = place.is_learning()
        process = place.start([*TINY, "--resume"] if known else TINY)
        lock = work_folder(place.out) / LOCK_FILE
        checkpoint = work_folder(place.out) / "checkpoint-network.npz"
        before = checkpoint.stat().st_mtime_ns if known else 0
        wait_until(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before, process)  # noqa: B023
        assert process.poll() is None and lock.exists()
        with pytest.raises(ConfigError, match="another process is training into"):
            train(place.data, place.out, TrainConfig(), resume=True)
        time.sleep(delays.uniform(0, 0.1))
        process.send_signal(sent)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode in ({-signal.SIGKILL} if sent == signal.SIGKILL else {1, 130}), errors
        if sent == signal.SIGINT:
            assert f"edgecls train {place.data} --out {place.out} {' '.join(TINY)} --resume" in errors
            assert "Traceback" not in errors
        assert not place.out.exists() and place.is_learning()
    config = TrainConfig(arch="cnn", image_size=16, filters=(4, 8), hidden=(8,), epochs=150, batch_size=4, patience=150)
    train(place.data, place.out, config, resume=True)
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"images", "run"}
    train(place.data, tmp_path / "expected", config)
    assert_same_run(place.out, tmp_path / "expected")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "moments_count", "old"),
    [
        (PHASES, 20, False),
        (PHASES, 20, True),
        *(([*EFFORT, "--effort", effort], 10, False) for effort in ("quick", "normal", "best")),
    ],
    ids=["phases", "phases-over-old", "quick", "normal", "best"],
)
def test_killed_at_random_moments_no_run_is_ever_lost_or_broken(
    tmp_path: Path, options: list[str], moments_count: int, old: bool
) -> None:
    expected = make_place(tmp_path / "expected")
    began = time.monotonic()
    expected.finish(options)
    duration = time.monotonic() - began
    moments = random.Random(int(old))
    kills = rounds = 0
    while kills < moments_count:
        rounds += 1
        place = make_place(tmp_path / f"round-{rounds}")
        if old:
            place.finish([*TINY, "--epochs", "2"])
        while True:
            resumable = place.is_learning()
            process = place.start([*options, "--resume" if resumable else "--overwrite"])
            # Importing TensorFlow is the same every time: nothing can be lost meanwhile.
            wait_until((work_folder(place.out) / LOCK_FILE).exists, process)
            try:
                process.wait(moments.uniform(0, 0.7 * duration))
            except subprocess.TimeoutExpired:
                process.kill()
            _, errors = process.communicate()
            check_whole(place.out)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, errors
            assert not old or place.out.exists() or (work_folder(place.out) / "finished-old").exists()
            kills += 1
            if kills >= moments_count:
                place.finish(options)
                break
        assert not work_folder(place.out).exists()
        assert_same_run(place.out, expected.out)
