"""Ends the processes of a local Ray cluster once the process that started it is gone, however it ended.

Ray ends them itself where it can; after a SIGKILL of the starter some of them would stay. All of them inherit the
environment variable `MARK`, which names the starter. Linux only: on other systems Ray has a process of its own for
this. As a script it takes a mark and waits for the end of its stdin; it must be started without the mark.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

MARK = "EDGECLS_RAY_STARTER"
PROC = Path("/proc")
# A process that the starter forked just before it was killed gets the mark only when it has begun its program.
QUIET_S, GIVE_UP_S = 2.0, 30.0


def make_mark(pid: int, proc: Path = PROC) -> str:
    """Return the mark of a starter: its PID and when it began, as PIDs are used again. OSError: it is gone."""
    # The name in parentheses may hold blanks; the start is field 22, the first after the name is field 3.
    return f"{pid}:{(proc / str(pid) / 'stat').read_text(errors='replace').rpartition(') ')[2].split()[19]}"


def find_marked(proc: Path = PROC) -> dict[int, str]:
    """Return PID -> mark of all processes that have one and may be looked at."""
    found, key = {}, f"{MARK}=".encode()
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


def _is_running(mark: str, proc: Path) -> bool:
    try:
        return make_mark(int(mark.partition(":")[0]), proc) == mark
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    # A word before the end of stdin: Ray was shut down, and what was to be forked is.
    end(sys.argv[1], 0 if sys.stdin.buffer.read() else QUIET_S)
