from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from edgecls.boards import ray_processes
from edgecls.parallel.ray import _watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
# What Ray does: a process in a session of its own, with the starter's environment.
SLEEP = 'subprocess.Popen(["sleep", "60"], start_new_session=True)'
STARTER = f"""
import os, subprocess, time
from edgecls.parallel.ray import _watched
with _watched():
    # It holds the watcher's stdin open, as a process does that was forked and has not begun its program.
    if os.fork() == 0:
        time.sleep(15)
        os._exit(0)
    print({SLEEP}.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def gone() -> str:
    """The mark of a process that is gone."""
    with subprocess.Popen(["sleep", "60"]) as process:
        mark = ray_processes.make_mark(process.pid)
        process.kill()
    return mark


@pytest.fixture
def sleeping(gone: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that inherited the mark `gone`."""
    with subprocess.Popen(["sleep", "60"], env={ray_processes.MARK: gone}) as process:
        yield process
        process.kill()


def wait_until_begun(pid: int) -> None:
    end = time.monotonic() + 5
    # Its starter goes on a moment before the new program has its environment.
    while pid not in ray_processes.find_marked():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 5
    # A dead process that nobody waits for keeps its PID and has no environment.
    while pid in ray_processes.find_marked():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_process_whose_starter_is_gone_is_left(sleeping: subprocess.Popen[bytes], gone: str) -> None:
    assert ray_processes.find_marked()[sleeping.pid] == gone
    assert sleeping.pid in ray_processes.find_left()
    ray_processes.end(gone, 0)
    assert sleeping.wait(5) == -signal.SIGKILL
    assert sleeping.pid not in ray_processes.find_left()


def test_a_pid_that_is_used_again_is_another_process() -> None:
    pid, began, now = ray_processes.make_mark(os.getpid()).split(":")
    for mark, is_left in ((f"{pid}:{began}:{now}", False), (f"{pid}:{began}0:{now}", True)):
        with subprocess.Popen(["sleep", "60"], env={ray_processes.MARK: mark}) as process:
            assert (process.pid in ray_processes.find_left()) is is_left
            process.kill()


def test_others_are_left_alone(sleeping: subprocess.Popen[bytes]) -> None:
    ray_processes.end(ray_processes.make_mark(os.getpid()), 0)
    assert sleeping.poll() is None


def test_what_was_started_ends_with_the_block() -> None:
    before = os.environ.get(ray_processes.MARK)
    with pytest.raises(KeyboardInterrupt), _watched():
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        raise KeyboardInterrupt
    assert process.wait(5) == -signal.SIGKILL
    assert os.environ.get(ray_processes.MARK) == before


def test_what_was_started_ends_after_a_kill_of_the_starter() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        wait_until_begun(pid)
        assert pid not in ray_processes.find_left()
        starter.kill()
        wait_until_gone(pid)
