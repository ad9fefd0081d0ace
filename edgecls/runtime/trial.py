"""Try a file of unknown origin in a process of its own, where a crash of a native interpreter harms nobody.

The hashes inside a file tell damage, not malice: whoever changes a file can seal it anew. What the trial shows is that
loading the file and running it on two images ends well here; it is no proof for every image. Imports no interpreter.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np

from edgecls import errors
from edgecls.errors import EdgeclsError, ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.runtime.engines import open_engine

# TensorRT builds an engine in minutes; an interpreter on a CPU loads in a second.
MOST_SECONDS = 300
# Of the machine's memory: a graph may ask for any amount.
MOST_MEMORY_SHARE = 0.5
ADVICE = "do not use this file; ask whoever made it for another"


def try_in_child(data: bytes, engine: str, threads: int, device: str, most_seconds: float = MOST_SECONDS) -> None:
    """Load an exported file in a child process and run it on two images; return if that went well.

    Args:
        data: the whole file, so that what is tried is what the caller loads.
        engine: a name in `engines.ENGINES`.
        threads: of the interpreter.
        device: a name in `engines.DEVICES`.
        most_seconds: that the child may take.

    Raises:
        EdgeclsError: that loading the file raises, of its class.
        ModelFileError: the child crashed, or took too long or too much memory.
    """
    command = [sys.executable, "-m", "edgecls.runtime.trial", engine, str(threads), device]
    # The same modules as here, and none from a folder that came with the file.
    found = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, env={**os.environ, **found}, timeout=most_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(f"{engine} did not load the file within {most_seconds:g} s; {ADVICE}") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelFileError(f"{engine} crashed on the file, by {name}, in a process of its own; {ADVICE}")
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ModelFileError(f"{engine} failed on the file in a process of its own ({said[0]}); {ADVICE}") from error
    if answer:
        raise getattr(errors, answer["error"], EdgeclsError)(answer["text"])


def try_here(data: bytes, engine: str, threads: int, device: str) -> dict[str, str]:
    """Return {} if the file loads and runs in this process, which may not live to say so; else our error, in JSON."""
    memory = int(MOST_MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # A crash is an answer here: nobody wants its memory on the disk.
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
    sys.stdout.write(json.dumps(try_here(sys.stdin.buffer.read(), engine, int(threads), device)))


if __name__ == "__main__":
    main(*sys.argv[1:])
