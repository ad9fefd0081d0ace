"""Ends the processes of a local Ray cluster after the process that started it has ended, even by SIGKILL.

All of them inherit the environment variable `MARK`, which names the starter. As a script, this module takes a mark and
waits for the end of the starter; the script itself must not have the mark. Linux only: elsewhere Ray does this itself.
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
# A process that the starter forked just before it was killed has the mark only once its program has started.
QUIET_S, GIVE_UP_S, POLL_S = 2.0, 60.0, 0.5


def make_mark(pid: int, proc: Path = PROC) -> str:
    """Return a new mark: PID and start time of the starter, as PIDs are reused, and the time now.

    Raises:
        OSError: the starter has ended.
    """
    return f"{pid}:{_stat(pid, proc)[19]}:{time.monotonic_ns()}"


def find_marked(proc: Path = PROC) -> dict[int, str]:
    """Return PID -> mark of all processes that have one and that this user may read."""
    found: dict[int, str] = {}
    key = f"{MARK}=".encode()
    for folder in proc.glob("[0-9]*"):
        # It may belong to another user, or end meanwhile.
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            found |= {int(folder.name): each[len(key) :].decode() for each in variables if each.startswith(key)}
    return found


def find_left(proc: Path = PROC) -> list[int]:
    """Return the PIDs of all processes whose starter has ended."""
    return sorted(pid for pid, mark in find_marked(proc).items() if not _is_running(mark, proc))


def end(mark: str, quiet_s: float) -> None:
    """Kill all processes with a mark until there was none for `quiet_s`."""
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
    # The fields from the state (3) on: the name before it is in parentheses and may hold spaces.
    return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()


def _is_running(mark: str, proc: Path) -> bool:
    try:
        pid, began, _ = mark.split(":")
        fields = _stat(int(pid), proc)
    except (OSError, ValueError):
        return False
    # A zombie has ended; only its exit status was not read yet.
    return fields[0] not in "ZX" and fields[19] == began


def wait_for_end(mark: str) -> bool:
    """Return True if the starter wrote to stdin that it shut Ray down, False if it ended without that."""
    while _is_running(mark, PROC):
        # Its end closes stdin, unless a process that it had just forked also holds the other end.
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            return bool(sys.stdin.buffer.read(1))
    return False


if __name__ == "__main__":
    end(sys.argv[1], 0 if wait_for_end(sys.argv[1]) else QUIET_S)
