"""A pool on a Ray cluster. The only module that imports Ray, and only when a cluster is requested.

It uses plain Ray tasks. Ray Data cuts blocks by their size in memory and names files itself; here each job is a fixed
list of images with a fixed file name, so that a run can be repeated, compared and resumed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edgecls.boards import ray_processes
from edgecls.boards.cpus import allowed_cpus
from edgecls.errors import ClusterError, ConfigError, EdgeclsError, MissingDependency
from edgecls.parallel.pool import Job, Result, Shared

LOCAL = "local"
# Of a job whose worker died. An image that kills its decoder must not kill every worker in turn.
RETRIES = 3
# Submitted jobs per worker: the next one waits when a worker is free, and few wait in memory.
JOBS_A_WORKER = 2
CONNECT_S = 10
# Settings of a local cluster, which Ray reads when it is imported. The first makes Ray use 127.0.0.1 on every system:
# no port is open to other machines. Ray has the second since 2.52.
CLOSED = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
JOIN_REMEDY = "start one (ray start --head); if it asks for a token, set RAY_AUTH_MODE=token"


@dataclass(frozen=True)
class RayPool:
    """The workers of a connected cluster."""

    threads: int = 1  # CPUs that a job takes
    retries: int = RETRIES  # of a job whose worker died

    def map(
        self, function: Callable[[Shared, Job], Result], shared: Shared, jobs: Iterable[Job], *, in_order: bool = False
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result; see `pool.Pool`."""
        import ray

        # Each function gets workers of its own, because TensorFlow's threads can be set only once in a process.
        own = {"env_vars": {"EDGECLS_JOB": function.__qualname__}}
        task = ray.remote(num_cpus=self.threads, max_retries=self.retries, runtime_env=own)(function)
        # Each machine fetches it once.
        kept = ray.put(shared)
        waiting: dict[Any, Job] = {}

        def take() -> tuple[Job, Result]:
            first = next(iter(waiting)) if in_order else ray.wait(list(waiting))[0][0]
            job = waiting.pop(first)
            return job, self._result(first, job)

        try:
            for job in jobs:
                while len(waiting) >= JOBS_A_WORKER * self._workers():
                    yield take()
                waiting[task.remote(kept, job)] = job
            while waiting:
                yield take()
        finally:
            # After an error, or if the caller stops early. After the end of the cluster nothing is left to cancel.
            for reference in waiting if ray.is_initialized() else ():
                ray.cancel(reference, force=True)

    def _workers(self) -> int:
        """Return how many jobs run at once; a cluster may grow and shrink."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 0)) // self.threads)

    def _result(self, reference: Any, job: object) -> Any:
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Ray wraps what the job raised. Other errors than edgecls' own are bugs and keep the worker's traceback.
            if isinstance(error.cause, EdgeclsError):
                raise error.cause from error
            if "failed to import on the worker" in str(error):
                reason = str(error).strip().splitlines()[-1]
                raise ClusterError(f"a worker lacks a package: {reason}; install it on every machine") from error
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise ClusterError(
                f"workers died {1 + self.retries} times on {job}: {reason} Finished work is kept. Find the cause "
                "(memory? a damaged image?) and run the same command again"
            ) from error


@contextlib.contextmanager
def connect(address: str, threads: int = 1) -> Iterator[RayPool]:
    """Yield a pool of the cluster at an address.

    Args:
        address: "local" or "local:N" starts a cluster of this machine alone, with as many workers as its CPUs allow, or
            N, and ends it with the block; "auto" is the cluster that this machine belongs to; HOST:PORT is that of its
            head node; ray://HOST:PORT, port 10001 as a rule, is for a machine that belongs to none.
        threads: CPUs that a job takes.

    Raises:
        MissingDependency: Ray is not installed. ConfigError: no such address, or no machine has so many CPUs.
        ClusterError: no cluster answers.
    """
    if find_spec("ray") is None:
        raise MissingDependency("a cluster needs Ray: pip install 'edgecls[ray]'")
    local = re.fullmatch(rf"{LOCAL}(?::([1-9]\d*))?", address)
    _configure(bool(local))
    import ray

    if ray.is_initialized():
        raise ClusterError("this process is already connected to a Ray cluster; disconnect first: ray.shutdown()")
    where: dict[str, Any] = {"address": address}
    if local:
        where = {"address": LOCAL, "num_cpus": threads * int(local[1] or len(allowed_cpus()) // threads or 1)}
        where["include_dashboard"] = False
    else:
        _check_answers(address)
    with _watched() if local else contextlib.nullcontext():
        with _own_signals():
            try:
                ray.init(**where, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises even Exception itself: of a machine too busy to start it in time
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                remedy = "try again when this machine is less busy, or go without Ray" if local else JOIN_REMEDY
                raise ClusterError(f"no Ray cluster at {address!r}: {reason}; {remedy}") from error
        try:
            _check_threads(threads)
            yield RayPool(threads)
        finally:
            ray.shutdown()


def _configure(local: bool) -> None:
    # Ray reads these when it is imported: no usage statistics, and no warning about GPUs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if local:
        keep_to_this_machine()


def keep_to_this_machine() -> None:
    """Make local clusters listen on the loopback address only and require a token for each job.

    Raises:
        ClusterError: Ray is already imported and has read other settings.
    """
    if "ray" not in sys.modules:
        # Kept in memory only; Ray would write a token of its own into the home folder.
        os.environ.update(CLOSED, RAY_AUTH_TOKEN=secrets.token_hex(32))
    elif any(os.environ.get(name) != value for name, value in CLOSED.items()):
        raise ClusterError(
            "Ray was imported before edgecls could keep a local cluster to this machine; connect before you import it"
        )


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """End the processes that Ray starts inside the block, also if this process is killed."""
    if not sys.platform.startswith("linux"):
        yield
        return
    mark = ray_processes.make_mark(os.getpid())
    # A session of its own, because a signal to this process may go to its whole process group.
    with subprocess.Popen(
        [sys.executable, "-I", "-S", ray_processes.__file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as watcher:
        before = os.environ.pop(ray_processes.MARK, None)
        os.environ[ray_processes.MARK] = mark
        try:
            yield
        finally:
            del os.environ[ray_processes.MARK]
            if before is not None:
                os.environ[ray_processes.MARK] = before
            watcher.communicate(b"shut down")


def _check_answers(address: str) -> None:
    """Raise an error if nothing answers; Ray would try for minutes."""
    if address == "auto":
        return
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d{1,5})", address)
    if found is None or found[1] == LOCAL:
        raise ConfigError(
            f"{address!r} is not the address of a Ray cluster; give local, local:N, auto, HOST:PORT or ray://HOST:PORT"
        )
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}. Check on its head node that it runs: ray status"
        ) from error


def _check_threads(threads: int) -> None:
    import ray

    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if threads > largest:
        raise ConfigError(f"a job takes {threads} CPUs, but the largest machine has {largest:g}; request fewer")


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
