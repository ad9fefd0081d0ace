"""Tries a file of unknown origin in a child process, where a crash of a native interpreter does no harm.

The checksums in a file show damage, not malice. The trial shows that the file can be loaded and run on two images; it
proves nothing about other images.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np

from edgecls import errors
from edgecls.errors import ConfigError, EdgeclsError, ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.runtime.engines import open_engine

# TensorRT builds an engine in minutes; an interpreter on a CPU loads in a second.
MOST_SECONDS = 300
# Of the machine's memory: a graph may request any amount.
MEMORY_FRACTION = 0.5
ADVICE = "do not use this file; get another one from its author"


def try_in_child(data: bytes, engine: str, threads: int, device: str, most_seconds: float = MOST_SECONDS) -> None:
    """Load an exported file in a child process and run it on two images.

    Args:
        data: the content of the file.
        engine: a name in `engines.ENGINES`.
        threads: of the interpreter.
        device: a name in `engines.DEVICES`.
        most_seconds: time limit.

    Raises:
        EdgeclsError: the error of loading the file, of its class.
        ModelFileError: the child crashed, or took too long or too much memory.
        ConfigError: Windows cannot limit the memory of a process.
    """
    if sys.platform == "win32":
        raise ConfigError("--untrusted cannot limit a child's memory on Windows; use Linux or macOS for this file")
    command = [sys.executable, "-m", "edgecls.runtime.trial", engine, str(threads), device]
    # The same modules as in this process, and none from the current folder.
    found = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, env={**os.environ, **found}, timeout=most_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(f"{engine} did not load the file within {most_seconds:g} s; {ADVICE}") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelFileError(f"{engine} crashed ({name}) on the file in a child process; {ADVICE}")
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ModelFileError(f"{engine} failed on the file in a child process ({last[0]}); {ADVICE}") from error
    if answer:
        raise getattr(errors, answer["error"], EdgeclsError)(answer["text"])


def try_in_process(data: bytes, engine: str, threads: int, device: str) -> dict[str, str]:
    """Return {} if the file loads and runs in this process, which it may crash; else our error."""
    # Windows has no such limits; `try_in_child` refuses there.
    if sys.platform != "win32":
        import resource

        memory = int(MEMORY_FRACTION * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        # A crash is expected here: no core dump.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        model = read_model_file(data)
        opened = open_engine(engine, model, threads, device)
        shape = (1, model.spec.height, model.spec.width, 1)
        opened.run(np.zeros(shape, np.uint8))
        opened.run(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    except EdgeclsError as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {}


def main(engine: str, threads: str, device: str) -> None:
    """Try the file on stdin; write the answer to stdout."""
    sys.stdout.write(json.dumps(try_in_process(sys.stdin.buffer.read(), engine, int(threads), device)))


if __name__ == "__main__":
    main(*sys.argv[1:])
