"""What the tests of pools let workers do; in a module of its own, so that workers find it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.bulk.model import Model
from edgecls.bulk.predict import predict_shard
from edgecls.bulk.shards import Shard
from edgecls.errors import DataError


def square(shared: int, job: int) -> int:
    return shared + job * job


def where(shared: None, job: int) -> int:
    # Long enough for the other worker to take the next.
    time.sleep(0.05)
    return os.getpid()


def refuse(shared: str, job: int) -> int:
    raise DataError(f"{shared} {job}; fix it")


def divide(shared: int, job: int) -> float:
    return shared / job


def count_call(log: Path, job: object) -> int:
    """Write down that a job was begun, and return how often that was."""
    with log.open("a") as file:
        file.write(f"{job}\n")
    return log.read_text().splitlines().count(str(job))


def die_once(shared: tuple[Path, int], job: int) -> int:
    """Return the square of a job; of one job, the worker that has it first is killed."""
    log, fatal = shared
    if count_call(log, job) == 1 and job == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return job * job


def always_die(shared: Path, job: str) -> int:
    count_call(shared, job)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


class DieOnce:
    """A frozen network, whose first process is killed by the batch that begins with this value."""

    def __init__(self, log: Path, fatal: int) -> None:
        self._log, self._fatal = log, fatal

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        first = int(batch[0, 0, 0, 0])
        if count_call(self._log, first) == 1 and first == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(batch.mean(axis=(1, 2)), np.float32)


def predict_or_die(shared: tuple[Model, Path, int], shard: Shard) -> list[bytes]:
    """Return the lines of a shard; the first worker of shard `fatal` is killed before it hands them in."""
    model, log, fatal = shared
    attempt = count_call(log, shard.number)
    lines = predict_shard(model, shard)
    if attempt == 1 and shard.number == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return lines
