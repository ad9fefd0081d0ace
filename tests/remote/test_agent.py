"""The program that runs on the board, without ssh: it must end, and clean up, however the other end goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecls.remote import agent

SOURCE = Path(agent.__file__).read_text()
WAIT_S = 60
# An edgecls that says where it is, and then works for ever. A signal just before a sleep only counts after it.
WORK = """
import sys, time
print(sys.argv[1:], flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.wait(WAIT_S)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> Any:
    """Starts the program with a patience of one second; the folder of temporary files is `tmp_path`/tmp."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "modules/edgecls").mkdir(parents=True)
    (tmp_path / "modules/edgecls/__init__.py").write_text("")
    (tmp_path / "modules/edgecls/__main__.py").write_text(WORK)

    def begin(*frames: dict[str, Any] | bytes, patience: float = 1) -> subprocess.Popen[bytes]:
        assert "PATIENCE_S = 60\n" in SOURCE
        program = SOURCE.replace("PATIENCE_S = 60\n", f"PATIENCE_S = {patience}\n")
        environment = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(tmp_path / "modules")}
        process = subprocess.Popen(
            [sys.executable, "-c", program, "token "], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        processes.append(process)
        assert process.stdin is not None
        for frame in frames:
            process.stdin.write(frame if isinstance(frame, bytes) else f"{json.dumps(frame)}\n".encode())
        process.stdin.flush()
        return process

    return begin


def answer(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("token {"), line
    return json.loads(line.removeprefix("token "))


def working(process: subprocess.Popen[bytes], folder: Path) -> Path:
    """The folder that the command runs in."""
    assert answer(process)["missing"] == [] and answer(process) == {}
    assert process.stdout is not None
    assert process.stdout.readline() == b"['selftest', 'a']\n"
    (found,) = folder.iterdir()
    return found


def test_says_what_it_is(start: Any) -> None:
    facts = answer(start())
    assert facts["python"] == list(sys.version_info[:3])
    assert facts.keys() == {"python", "machine", "missing", "edgecls", "pip"}


def test_files_arrive_and_go(start: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    frames = ({"name": "a", "bytes": len(content)}, content, {"name": "f/b", "bytes": 0}, {"run": ["selftest", "a"]})
    process = start(*frames, patience=60)
    folder = working(process, tmp_path / "tmp")
    assert ((folder / "a").read_bytes(), (folder / "f/b").read_bytes()) == (content, b"")
    process.stdin.close()
    # The command was stopped as by Ctrl-C.
    assert process.wait(WAIT_S) == 128 + signal.SIGINT
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("ending", ["close", "silence", "terminate", "hang up"])
@pytest.mark.parametrize("stage", ["copying", "running"])
def test_leaves_nothing_however_the_other_end_goes(start: Any, tmp_path: Path, ending: str, stage: str) -> None:
    frames = [{"name": "a", "bytes": 4 if stage == "running" else 10**9}, b"some"]
    process = start(
        *frames,
        *([{"run": ["selftest", "a"]}] if stage == "running" else []),
        patience=60 if ending != "silence" else 1,
    )
    if stage == "running":
        working(process, tmp_path / "tmp")
    else:
        answer(process)
        deadline = time.monotonic() + WAIT_S
        while not list((tmp_path / "tmp").glob("*/a")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    if ending == "close":
        process.stdin.close()
    elif ending == "terminate":
        process.terminate()
    elif ending == "hang up":
        # As systemd ends what a lost session left.
        process.terminate()
        process.send_signal(signal.SIGHUP)
    assert process.wait(WAIT_S) != 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_signs_of_life_keep_it_going(start: Any, tmp_path: Path) -> None:
    process = start({"run": ["selftest", "a"]})
    working(process, tmp_path / "tmp")
    for _ in range(10):
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(0.3)
    assert process.poll() is None
    # And then there is silence.
    assert process.wait(WAIT_S) != 0
