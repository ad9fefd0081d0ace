"""A process that has imported an interpreter and forks for every case: a crash is an answer, and a case takes little.

`python forks.py ENGINE` reads files, each after its length in 8 bytes, and writes one line of JSON for each.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgecls.runtime.engines import ENGINES
from edgecls.runtime.trial import try_in_process

MOST_SECONDS = 20


class ForkServer:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, data: bytes) -> tuple[str, str]:
        """Return ("ok" | "refused" | "crashed" | "bug", text) for a file."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(struct.pack("<Q", len(data)) + data)
        self._process.stdin.flush()
        outcome, text = json.loads(self._process.stdout.readline())
        return outcome, text


@contextmanager
def fork_server(engine: str) -> Iterator[ForkServer]:
    """Yield a server for one of `ENGINES`."""
    command = [sys.executable, __file__, engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield ForkServer(process)
        process.kill()


def try_in_fork(data: bytes, engine: str) -> tuple[str, str]:
    """Return what became of a file in a child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(MOST_SECONDS)
        try:
            answer = try_in_process(data, engine, 1, "cpu")
            outcome = ["refused" if answer else "ok", answer.get("text", "")]
        except BaseException:  # noqa: BLE001  # whatever it is, it is the finding
            outcome = ["bug", traceback.format_exc()]
        os.write(writing, json.dumps(outcome).encode()[-60_000:])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  # a file descriptor
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "crashed", signal.Signals(os.WTERMSIG(status)).name
    return (said and tuple(json.loads(said))) or ("crashed", f"exit status {os.WEXITSTATUS(status)}")


def main(engine: str) -> None:
    """Serve."""
    importlib.import_module(ENGINES[engine].module)
    importlib.import_module({"litert": "ai_edge_litert.interpreter"}.get(engine, engine))
    with Path("/dev/null").open("w") as nowhere:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(nowhere.fileno(), 1)
    while head := sys.stdin.buffer.read(8):
        outcome = try_in_fork(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]), engine)
        answers.write(f"{json.dumps(outcome)}\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
