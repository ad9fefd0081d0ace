"""Ends the processes of a local Ray cluster once the process that started it is gone, however it ended.

Ray ends them itself where it can; after a SIGKILL of the starter some of them would stay. All of them inherit the
environment variable `MARK`, which names the starter. Linux only: on other systems Ray has a process of its own for
this. As a script it takes a mark and waits for the end of its starter; it must be started without the mark.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

MARK = "EDGECLS_RAY_STARTER"
PROC = Path("/proc")
# A process that the starter forked just before it was killed gets the mark only when it has begun its program.
QUIET_S, GIVE_UP_S, POLL_S = 2.0, 60.0, 0.5


def make_mark(pid: int, proc: Path = PROC) -> str:
    """Return a new mark of a starter: its PID, when it began, as PIDs are used again, and now. OSError: it is gone."""
    return f"{pid}:{_stat(pid, proc)[19]}:{time.monotonic_ns()}"


def find_marked(proc: Path = PROC) -> dict[int, str]:
    """Return PID -> mark of all processes that have one and may be looked at."""
    found: dict[int, str] = {}
    key = f"{MARK}=".encode()
    for folder in proc.glob("[0-9]*"):
        # It may be another user's, or end meanwhile.
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            found |= {int(folder.name): each[len(key) :].decode() for each in variables if each.startswith(key)}
    return found


def find_left(proc: Path = PROC) -> list[int]:
    """Return the PIDs of all processes whose starter is gone."""
    return sorted(pid for pid, mark in find_marked(proc).items() if not _is_running(mark, proc))


def end(mark: str, quiet_s: float) -> None:
    """Kill all processes with a mark until there has been none for so long."""
    if sys.platform == "win32":
        return
    began = last = time.monotonic()
    while last - began < GIVE_UP_S:
        pids = [pid for pid, found in find_marked().items() if found == mark]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if pids:
            last = time.monotonic()
        elif time.monotonic() - last >= quiet_s:
            return
        time.sleep(0.05)


def _stat(pid: int, proc: Path) -> list[str]:
    # From field 3, the state, on: the name before it is in parentheses and may hold blanks.
    return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()


def _is_running(mark: str, proc: Path) -> bool:
    try:
        pid, began, _ = mark.split(":")
        fields = _stat(int(pid), proc)
    except (OSError, ValueError):
        return False
    # A zombie is gone, only nobody has asked for its exit status yet.
    return fields[0] not in "ZX" and fields[19] == began


def wait_for_end(mark: str) -> bool:
    """Return True if the starter said on stdin that it shut Ray down, False if it is gone without a word."""
    while _is_running(mark, PROC):
        # Its end alone closes stdin, unless a process that it had just forked holds the other end, too.
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            return bool(sys.stdin.buffer.read(1))
    return False


if __name__ == "__main__":
    end(sys.argv[1], 0 if wait_for_end(sys.argv[1]) else QUIET_S)
