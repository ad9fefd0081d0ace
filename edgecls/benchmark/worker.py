"""A process that holds one file in one engine and times it on request.

`python -m edgecls.benchmark.worker` reads one JSON object per line from stdin and answers each with one on stdout,
until stdin ends. Needs numpy, Pillow and the one interpreter.

    {"do": "describe"}, {"do": "state"}     the machine and its state now
    {"do": "open", "file": ..., "engine": ..., "threads": ..., "device": ..., "scope": ..., "images": [...]}
    {"do": "warm_up", "seconds": 10}        this and the next two need an "open" before
    {"do": "batch", "calls": 20}
    {"do": "pace", "fps": 30, "seconds": 5}

The answer to an error that a user can fix is {"error": its class, "text": ...}.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark import machine_state
from edgecls.benchmark.measure import BATCH_DROPPED, pace, time_calls, warm_up
from edgecls.boards import machine
from edgecls.boards.cpus import allowed_cpus, default_threads, pick_cpus
from edgecls.errors import EdgeclsError
from edgecls.images.decode import load_gray
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import detect_format, read_bytes
from edgecls.runtime.classifier import Classifier, load

# More would not change the use of small caches, and a board's memory must hold them.
READY_IMAGES = 16
# Threads wait if they use less than this fraction of a CPU in so many seconds. The kernel counts in steps of 4 ms.
REST_S, RESTING = 0.01, 0.2
LONGEST_RESTS = 50
ROOT = Path("/")


class Worker:
    """One file in one engine on fixed CPUs. Every public method is a command of the protocol."""

    def __init__(self) -> None:
        self._cpus: list[int] = []
        self._action: Callable[[], object] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the facts of this machine."""
        return machine.describe(ROOT)

    def state(self) -> dict[str, Any]:
        """Return the state of this machine."""
        return asdict(machine_state.read_state(ROOT))

    def open(
        self, file: str, engine: str | None, threads: int | None, device: str, scope: str, images: Sequence[str]
    ) -> dict[str, Any]:
        """Load a file, and return what was loaded, where it runs, and the times of loading and of the first inference.

        Raises:
            EdgeclsError: as `edgecls.load` and reading an image raise it.
        """
        threads = threads or default_threads(ROOT)
        self._cpus = pick_cpus(threads, allowed_cpus(), ROOT)
        if hasattr(os, "sched_setaffinity"):
            # The engine's threads inherit it, so that it comes first.
            os.sched_setaffinity(0, self._cpus)
        base = _memory_mb("VmRSS")
        with _observed(self._cpus) as observed:
            began = time.perf_counter_ns()
            classifier = load(file, engine=engine, threads=threads, device=device)
            loaded = time.perf_counter_ns()
            self._action = make_action(classifier, scope, images)
            ready = time.perf_counter_ns()
            self._action()
            first = time.perf_counter_ns()
        opened = classifier.engine
        return observed | {
            "model": describe_model(file, classifier.spec),
            "engine": opened.name,
            "engine_version": opened.version,
            "device": opened.device,
            "threads": opened.threads,
            "cpus": self._cpus,
            "load_ms": (loaded - began) / 1e6,
            "first_ms": (first - ready) / 1e6,
            "base_rss_mb": base,
            "peak_rss_mb": _memory_mb("VmHWM"),
        }

    def warm_up(self, seconds: float) -> dict[str, Any]:
        """Return how warming up went."""
        warmed = asdict(warm_up(self._opened(), seconds))
        _rest()
        return warmed

    def batch(self, calls: int) -> dict[str, Any]:
        """Return the time of each of so many calls, and the use of their CPUs."""
        action = self._opened()
        with _observed(self._cpus) as observed:
            times = time_calls(action, BATCH_DROPPED + calls)
        _rest()
        return observed | {"ms": times[BATCH_DROPPED:].tolist(), "peak_rss_mb": _memory_mb("VmHWM")}

    def pace(self, fps: float, seconds: float) -> dict[str, Any]:
        """Return how the file keeps up with a camera."""
        action = self._opened()
        with _observed(self._cpus) as observed:
            paced, times = pace(action, fps, seconds)
        return observed | {"paced": asdict(paced), "ms": times.tolist(), "peak_rss_mb": _memory_mb("VmHWM")}

    def _opened(self) -> Callable[[], object]:
        if self._action is None:
            raise RuntimeError("'open' must come first")
        return self._action


COMMANDS = ("describe", "state", "open", "warm_up", "batch", "pace")


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer every line of `requests` with a line in `replies`, until there are no more."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        command = request.pop("do")
        if command not in COMMANDS:
            raise RuntimeError(f"unknown command {command!r}; the commands are {', '.join(COMMANDS)}")
        try:
            reply = getattr(worker, command)(**request)
        except EdgeclsError as error:
            reply = {"error": type(error).__name__, "text": str(error)}
        replies.write(f"{json.dumps(reply)}\n")
        replies.flush()


def describe_model(file: str, spec: ModelSpec) -> dict[str, Any]:
    """Return what identifies a file and the network in it."""
    data = read_bytes(file)
    return {
        "format": detect_format(data),
        "bytes": len(data),
        "sha256": spec.graph_sha256,
        "arch": spec.arch,
        "precision": spec.precision,
        "height": spec.height,
        "width": spec.width,
        "classes": len(spec.labels),
        "accuracy": spec.metrics.get("accuracy"),
    }


def make_action(classifier: Classifier, scope: str, images: Sequence[str]) -> Callable[[], object]:
    """Return the call to time: the network alone, or everything from the image file to the label."""
    spec = classifier.spec
    if scope == "end-to-end":
        paths = itertools.cycle(images)
        return lambda: classifier.predict(next(paths))
    shape = (1, spec.height, spec.width, 1)
    ready: list[NDArray[np.uint8]] = [
        load_gray(path, spec.height, spec.width, spec.preprocessing).reshape(shape) for path in images[:READY_IMAGES]
    ]
    # Seeded, so that every process times the same picture.
    ready = ready or [np.random.default_rng(0).integers(0, 256, shape, np.uint8)]
    arrays, run = itertools.cycle(ready), classifier.engine.run
    return lambda: run(next(arrays))


@contextmanager
def _observed(cpus: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a dict that holds at the end the use of the CPUs in seconds; no garbage is collected."""
    observed: dict[str, Any] = {}
    gc.collect()
    gc.disable()
    before, waited = machine_state.read_cpu_times(cpus, ROOT), _waited_s()
    own, wall = time.process_time(), time.perf_counter()
    try:
        yield observed
    finally:
        wall, own = time.perf_counter() - wall, time.process_time() - own
        after = machine_state.read_cpu_times(cpus, ROOT)
        gc.enable()
    mhz = machine_state.read_mhz(cpus, ROOT)
    observed |= {
        "wall_s": wall,
        "own_s": own,
        "busy_s": after.busy - before.busy,
        "steal_s": after.steal - before.steal,
        "waited_s": max(0.0, _waited_s() - waited),
        "mhz": sum(mhz) / len(mhz) if mhz else None,
    }


def _rest() -> None:
    """Return when the engine's threads wait, so that they do not slow down the process whose turn is next.

    Those of ONNX Runtime look for work for 25 ms after a call, which uses a CPU fully.
    """
    for _ in range(LONGEST_RESTS):
        before = time.process_time()
        time.sleep(REST_S)
        if time.process_time() - before < RESTING * REST_S:
            return


def _waited_s() -> float:
    """Return how long this process's threads waited for a CPU; 0.0 if the kernel does not count it."""
    waited = 0
    for task in (ROOT / "proc/self/task").glob("*/schedstat"):
        # A thread may have ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            waited += int(task.read_text(encoding="ascii").split()[1])
    return waited / 1e9


def _memory_mb(field: str) -> float | None:
    """Return "VmRSS", the memory of this process, or "VmHWM", its maximum; None if unknown.

    Unlike the values of getrusage, these do not include a large parent.
    """
    status = ROOT / "proc/self/status"
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.exists() else None
    return round(int(found.group(1)) / 1024, 1) if found else None


def main() -> None:
    """Serve stdin and stdout; the output of engines goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
