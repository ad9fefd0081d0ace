"""Finds and runs the compilers of NPUs, which are programs of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from edgecls.errors import ExportError

# edgetpu_compiler's own limit is 180 s a try (-t).
TIMEOUT_S = 600


def find_program(name: str) -> str | None:
    """Return the path of a program, from this Python's environment or from PATH, or None."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def run_compiler(command: list[str], file: str) -> subprocess.CompletedProcess[str]:
    """Return the ended process of a compiler; `file` is the name of what it compiles.

    Raises:
        ExportError: it ran for more than `TIMEOUT_S`. OSError: it cannot be started.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        program = Path(command[0]).stem
        raise ExportError(f"{program} ran for more than {TIMEOUT_S} s on {file}; try a smaller network") from error


def describe_failure(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last three lines that a program printed, or that it wrote no file if it printed nothing."""
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return " ".join(lines[-3:]) or "it wrote no file"
