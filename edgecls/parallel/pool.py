"""Where a long list of jobs is worked on: in this process, or by the workers of a cluster (ray.py).

What a job comes to depends on neither, so that a cluster gives the bytes that one process gives. Imports the standard
library alone.
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
    """Works on jobs."""

    @property
    def threads(self) -> int | None:
        """Return how many threads a job may keep busy; None leaves it to the job."""

    def map(
        self,
        function: Callable[[Shared, Job], Result],
        shared: Shared,
        jobs: Iterable[Job],
        *,
        in_order: bool = False,
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result, every job once.

        `jobs` is read no further ahead than keeps the workers busy, so that neither an endless list nor a slow caller
        fills the memory.

        Args:
            function: of a module, so that other machines find it. It is called again for a job whose worker died, so
                it must do nothing but return its result.
            shared: the same for all jobs.
            jobs: what is worked on.
            in_order: yield in the order of `jobs`; otherwise as they are ready.

        Raises:
            EdgeclsError: what `function` raised, or the pool lost its workers.
        """


class Here:
    """A pool of this process alone."""

    threads: int | None = None

    def map(
        self,
        function: Callable[[Shared, Job], Result],
        shared: Shared,
        jobs: Iterable[Job],
        *,
        in_order: bool = False,
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result, one after the other."""
        for job in jobs:
            yield job, function(shared, job)


_HERE = Here()
_current: ContextVar[Pool] = ContextVar("pool")


def current_pool() -> Pool:
    """Return the pool of the innermost `work_in`, this process without one."""
    return _current.get(_HERE)


@contextlib.contextmanager
def work_in(pool: Pool) -> Iterator[None]:
    """Let what can be spread within the block, however deep, run in `pool`."""
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
