"""A local Ray cluster whose starter is killed at any moment leaves no process behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from places import SECONDS, start

pytestmark = pytest.mark.faults
ROUNDS = 4
LEFT_S = 5
# The command, its watcher, seven of Ray and two workers.
PROCESSES = 11


def descendants(word: str) -> list[int]:
    """Return the PIDs of all processes that inherited a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until_gone(word: str) -> None:
    """Fail if a process with this word is left after `LEFT_S`."""
    began = time.monotonic()
    while left := descendants(word):
        assert time.monotonic() - began < LEFT_S, [Path(f"/proc/{pid}/cmdline").read_bytes()[:200] for pid in left]
        time.sleep(0.05)


def predict(file: Path, folder: Path, word: str) -> subprocess.Popen[str]:
    images = ["predict", file, folder / "images", "--out", folder / word, "--ray", "local:2", "--shard-images", "2"]
    return start(images, ROUND=word)


def kill_at(process: subprocess.Popen[str], word: str, moments: random.Random) -> None:
    """Kill a command when so many of its processes run, as the start of Ray takes longer on a busy machine."""
    count = moments.randint(1, PROCESSES)
    while process.poll() is None and len(descendants(word)) < count:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.5))
    process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="Ray's own process does it on other systems")
def test_killed_at_random_moments(tiny_tflite: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(60):
        (tmp_path / "images" / f"{number}.png").write_bytes(pictures[number % 3].read_bytes())
    with predict(tiny_tflite, tmp_path, "whole") as process:
        assert process.wait(SECONDS) == 0, process.communicate()[1]
    # The command ends its cluster before it ends itself.
    assert descendants("ROUND=whole") == []
    moments = random.Random(0)
    for _ in range(ROUNDS):
        word = uuid.uuid4().hex
        with predict(tiny_tflite, tmp_path, word) as process:
            kill_at(process, word, moments)
        wait_until_gone(word)
