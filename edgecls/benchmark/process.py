"""Starts a worker process, sends it requests, and ends it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from edgecls import errors
from edgecls.benchmark.record import BenchmarkError
from edgecls.errors import EdgeclsError

LOCAL = (sys.executable, "-m", "edgecls.benchmark.worker")
# Time for a worker to end by itself.
SHUTDOWN_S = 2.0
TAIL_CHARACTERS = 2000


class WorkerProcess:
    """A running worker, started by `command`, on this machine or another one. `with` ends it."""

    def __init__(self, command: Sequence[str] = LOCAL) -> None:
        self._log = tempfile.TemporaryFile()
        # In its own session: Ctrl-C reaches only the parent, which ends it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            start_new_session=True,
        )

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        """Return the worker's answer.

        Raises:
            EdgeclsError: that the worker raised, of the same class.
            BenchmarkError: the worker ended; the end of its stderr is in the text.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        # If the worker has ended, its answer is missing below.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{json.dumps({'do': command} | request)}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise BenchmarkError(f"a benchmark process ended during {command!r}: {self._read_stderr()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise getattr(errors, reply["error"], EdgeclsError)(reply["text"])
        return reply

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _read_stderr(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SHUTDOWN_S)
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")[-TAIL_CHARACTERS:].strip()
        return f"exit status {self._process.poll()}; {text or 'no output'}"
