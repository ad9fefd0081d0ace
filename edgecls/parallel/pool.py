"""Pools that run a list of jobs: this process, or the workers of a cluster (ray.py).

Results do not depend on the pool: a cluster gives the same bytes as one process. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")


class Pool(Protocol):
    """Runs jobs; this process does, unless a subclass gives them to others."""

    @property
    def threads(self) -> int | None:
        """Return how many threads a job may use; None leaves it to the job."""
        return None

    def map(
        self, function: Callable[[Shared, Job], Result], shared: Shared, jobs: Iterable[Job], *, in_order: bool = False
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job once, with its result.

        `jobs` is read only as far ahead as keeps the workers busy, so an endless list does not fill the memory.

        Args:
            function: of a module, so that other machines find it, and without side effects, because it is called again
                for a job whose worker died.
            shared: the same for all jobs.
            jobs: the inputs.
            in_order: yield in the order of `jobs`, otherwise as they finish.

        Raises:
            EdgeclsError: `function` raised it, or the pool lost its workers.
        """
        for job in jobs:
            yield job, function(shared, job)


class LocalPool(Pool):
    """Runs jobs in this process."""


_LOCAL = LocalPool()
_current: ContextVar[Pool] = ContextVar("pool")


def current_pool() -> Pool:
    """Return the pool of the innermost `work_in`, by default this process."""
    return _current.get(_LOCAL)


@contextlib.contextmanager
def work_in(pool: Pool) -> Iterator[None]:
    """Run the jobs inside the block in `pool`."""
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
