"""Workers as processes of their own, on loopback: what they learn together, and what they say when one fails."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_run import make_images

from edgecls.config import TrainConfig
from edgecls.training.run.run_folder import load_model, read_history, read_record
from edgecls.training.run.work_folder import has_checkpoint, work_folder
from edgecls.training.train import train

SECONDS = 300
PHASES = TrainConfig(
    image_size=32,
    alpha=0.35,
    # Of more blocks, only building them takes longer.
    blocks=3,
    weights="none",
    hidden=(8,),
    dropout=0.3,
    augmented_copies=0,
    batch_size=6,
    epochs=3,
    unfreeze=1,
    fine_epochs=2,
    learning_rate=0.01,
    l2=0.001,
)
SMALL = TrainConfig(arch="cnn", image_size=16, filters=(4, 8), hidden=(8,), epochs=100, batch_size=4, patience=100)
# Only the order of sums differs, and Adam divides by gradients next to nothing: 6e-7 was seen.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


def options_of(config: TrainConfig) -> list[str]:
    """Return the options of the command line that stand for a configuration."""
    words = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if value == getattr(TrainConfig(), field.name):
            continue
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name}")
        else:
            words.append(f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return words


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


@contextlib.contextmanager
def team(data: Path, out: Path, *options: list[str], before: str = "") -> Iterator[list[subprocess.Popen[str]]]:
    """Yield one worker for each list of options; those that still run in the end are killed."""
    addresses = free_addresses(max(2, len(options)))
    processes = []
    for index, words in enumerate(options):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "XDG_CACHE_HOME": str(out.parent / "cache")}
        code = f"{before}\nfrom edgecls.cli import main\nmain()"
        command = [sys.executable, "-c", code, "train", str(data), "--out", str(out), *words]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr (in one line)."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    return process.returncode, stdout, " ".join(stderr.split())


def assert_near(one: Path, other: Path) -> None:
    """Check that two runs learned the same."""
    for array, again in zip(load_model(one).get_weights(), load_model(other).get_weights(), strict=True):
        np.testing.assert_allclose(array, again, rtol=TOLERANCE, atol=TOLERANCE)
    for epoch, same in zip(read_history(one), read_history(other), strict=True):
        assert _figures(epoch) == pytest.approx(_figures(same), rel=TOLERANCE, abs=TOLERANCE)
        assert (epoch.phase, epoch.epoch) == (same.phase, same.epoch)
    first, second = read_record(one), read_record(other)
    assert first["metrics"] == second["metrics"]
    assert [(each["name"], each["best_epoch"], each["kept"]) for each in first["phases"]] == [
        (each["name"], each["best_epoch"], each["kept"]) for each in second["phases"]
    ]


def _figures(epoch: Any) -> dict[str, float]:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "largest_step_loss")
    return {name: getattr(epoch, name) for name in names}


# Gradients through the whole network take a minute to begin.
@pytest.mark.parametrize("joint", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_workers_learn_what_one_does(data: Path, tmp_path: Path, joint: bool) -> None:
    config = dataclasses.replace(PHASES, joint=joint)
    train(data, tmp_path / "alone", config)
    with team(data, tmp_path / "run", options_of(config), options_of(config)) as workers:
        (status, stdout, stderr), helper = said(workers[0]), said(workers[1])
    assert status == 0, stderr
    assert helper[0] == 0 and "worker 1 (127.0.0.1:" in helper[1] and "has finished" in helper[1], helper
    assert_near(tmp_path / "alone", tmp_path / "run")
    assert read_record(tmp_path / "run")["workers"] == 2
    assert f"Next: edgecls export {tmp_path / 'run'}" in stdout
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "run", "cache"}


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_and_the_run_continues_with_two_or_one(data: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", options_of(SMALL)
    for lost, more in ((1, []), (0, ["--resume"])):
        checkpoint = work_folder(out) / "checkpoint-network.npz"
        before = checkpoint.stat().st_mtime_ns if more else 0
        with team(data, out, [*words, *more], [*words, *more]) as workers:
            end = time.monotonic() + SECONDS
            while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
                assert time.monotonic() < end and workers[0].poll() is None, said(workers[0])
                time.sleep(0.01)
            workers[lost].send_signal(signal.SIGKILL)
            status, _, stderr = said(workers[1 - lost])
        assert status == 1, stderr
        assert f"worker {lost} (127.0.0.1:" in stderr and "no longer answers" in stderr and "--resume" in stderr
        assert "Traceback" not in stderr
        assert has_checkpoint(work_folder(out)) and not out.exists()
    train(data, out, SMALL, resume=True)
    train(data, tmp_path / "alone", SMALL)
    assert_near(tmp_path / "alone", out)


def test_workers_that_do_not_match_say_what_differs(data: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SMALL, epochs=7, filters=(4, 4))
    with team(data, tmp_path / "run", options_of(SMALL), options_of(other)) as workers:
        answers = [said(worker) for worker in workers]
    for status, _, stderr in answers:
        assert status == 2 and "has other settings than worker 0 (127.0.0.1:" in stderr, stderr
        assert "filters ([4, 4], not [4, 8]), epochs (7, not 100); give all the same command" in stderr
    assert not (tmp_path / "run").exists() and not work_folder(tmp_path / "run").exists()


def test_a_worker_that_does_not_come_is_named(data: Path, tmp_path: Path) -> None:
    before = "from edgecls.training.distributed import cluster; cluster.WAIT_S = 3"
    with team(data, tmp_path / "run", options_of(SMALL), before=before) as (first,):
        status, _, stderr = said(first)
    assert status == 1 and "worker 1 (127.0.0.1:" in stderr and "did not start within 3 s" in stderr, stderr
    assert "Traceback" not in stderr and not work_folder(tmp_path / "run").exists()
