"""Runs several trainings at a time, each on processors of its own, where a machine has more than one training uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from edgecls.boards.cpus import allowed_cpus

Call = TypeVar("Call")
Answer = TypeVar("Answer")


def run_side_by_side(work: Callable[[Call], Answer], calls: Iterable[Call], jobs: int) -> list[Answer]:
    """Return the answer to each call, in their order.

    Args:
        work: answers one call. The processes that it starts inherit the processors of its thread.
        calls: what it is called with.
        jobs: calls at a time. Each has an equal share of the processors that this process may use.

    Raises:
        ValueError: fewer processors than jobs.
    """
    cpus = allowed_cpus()
    if not 1 <= jobs <= len(cpus):
        raise ValueError(f"{jobs} trainings at a time on {len(cpus)} processors: choose 1 to {len(cpus)}")
    each = len(cpus) // jobs
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cpus[job * each : (job + 1) * each])
    with ThreadPoolExecutor(jobs, initializer=lambda: os.sched_setaffinity(0, shares.get())) as pool:
        return list(pool.map(work, calls))
