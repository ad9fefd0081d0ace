"""Jobs on a real local Ray cluster of two workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_jobs import always_die, die_once, divide, refuse, square, where

from edgecls.boards import ray_processes
from edgecls.errors import ClusterError, ConfigError, DataError, MissingDependency
from edgecls.parallel import ray as ray_module
from edgecls.parallel.ray import JOBS_A_WORKER, RayPool, connect

JOBS = list(range(23))


@pytest.mark.parametrize("in_order", [True, False])
def test_every_job_comes_back_once(ray_pool_2: RayPool, in_order: bool) -> None:
    found = list(ray_pool_2.map(square, 100, JOBS, in_order=in_order))
    assert sorted(found) == [(job, 100 + job * job) for job in JOBS]
    if in_order:
        assert [job for job, _ in found] == JOBS


def test_jobs_are_worked_on_by_two_other_processes(ray_pool_2: RayPool) -> None:
    pids = {pid for _, pid in ray_pool_2.map(where, None, JOBS * 4)}
    assert len(pids) == 2 and os.getpid() not in pids


def test_an_endless_list_is_read_no_further_than_workers_need(ray_pool_2: RayPool) -> None:
    read = 0

    def jobs() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    results = ray_pool_2.map(square, 0, jobs())
    for done in range(1, 30):
        next(results)
        assert read <= done + JOBS_A_WORKER * 2
    results.close()  # type: ignore[attr-defined]


def test_our_errors_come_as_they_are_and_bugs_with_the_workers_traceback(ray_pool_2: RayPool) -> None:
    with pytest.raises(DataError, match="^no image 7; fix it$"):
        list(ray_pool_2.map(refuse, "no image", [7]))
    with pytest.raises(ZeroDivisionError, match=r"pool_jobs.py"):
        list(ray_pool_2.map(divide, 1, [1, 0]))
    # And the cluster goes on.
    assert list(ray_pool_2.map(square, 0, [3])) == [(3, 9)]


def test_a_killed_worker_loses_nothing_and_only_its_job_is_repeated(ray_pool_2: RayPool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = list(ray_pool_2.map(die_once, (log, 5), JOBS, in_order=True))
    assert found == [(job, job * job) for job in JOBS]
    assert Counter(log.read_text().split()) == Counter(map(str, [*JOBS, 5]))


def test_a_job_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(
        ClusterError, match=r"workers died 2 times on shard 4: .*(?i:worker).* run the same command again"
    ):
        list(RayPool(retries=1).map(always_die, log, ["shard 4"]))
    assert log.read_text().splitlines() == ["shard 4"] * 2


# Connecting


def test_the_users_signals_stay_theirs(ray_pool_2: RayPool) -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_one_cluster_at_a_time(ray_pool_2: RayPool) -> None:
    with pytest.raises(ClusterError, match="already connected to a Ray cluster"), connect("local"):
        pass


def test_ray_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[ray\]'"), connect("local"):
        pass


@pytest.mark.parametrize("address", ["", "locale", "local:0", "local:x", "head", "http://head:1", "head:123456"])
def test_no_address_is_wrong_usage(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=r"give local, local:N, auto, HOST:PORT or ray://HOST:PORT"), connect(address):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_reported_at_once(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ClusterError, match=rf"no Ray cluster answers at {scheme}127.0.0.1:{port}: .*refused"):
        with connect(f"{scheme}127.0.0.1:{port}"):
            pass
    assert time.monotonic() - began < ray_module.CONNECT_S


def listening() -> dict[str, str]:
    """Return socket inode -> address, in hex, of every TCP port that is listened on here."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {row[9]: row[1].partition(":")[0] for row in rows if row[3] == "0A"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_local_cluster_listens_on_this_machine_alone(ray_pool_2: RayPool) -> None:
    listened = listening()
    found = []
    for pid in ray_processes.find_marked():
        # A process of the cluster that ends meanwhile, or closes a file, listens no longer.
        with contextlib.suppress(FileNotFoundError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.append(listened.get(str(link.readlink()).removeprefix("socket:[").removesuffix("]"), ""))
    addresses = set(filter(None, found))
    # 127.0.0.1, as such and as IPv6 writes it: which of the two Ray uses depends on the machine.
    assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.slow
def test_a_local_cluster_takes_no_job_without_its_token(ray_pool_2: RayPool) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", FROM_OUTSIDE, address],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1] / "support",
        env=os.environ | {"RAY_AUTH_TOKEN": "0" * 64},
    )
    assert done.returncode == 1 and not done.stdout
    assert "ClusterError: no Ray cluster at" in done.stderr and "if it asks for a token" in done.stderr


def test_ray_that_does_not_start_is_reported_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nAnd more")  # as Ray does

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    reason = r"no Ray cluster at 'local': The current node timed out during startup\.; try again when .* without Ray$"
    with pytest.raises(ClusterError, match=reason), connect("local"):
        pass


def test_ray_that_was_imported_open_starts_no_cluster() -> None:
    code = "import ray; from edgecls.parallel.ray import connect; connect('local').__enter__()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert "ClusterError: Ray was imported before" in done.stderr


FROM_OUTSIDE = """
import sys
from pool_jobs import square
from edgecls.errors import ConfigError
from edgecls.parallel.ray import connect
with connect(sys.argv[1], threads=2) as pool:
    print(list(pool.map(square, 0, [3, 4], in_order=True)))
try:
    with connect(sys.argv[1], threads=64):
        pass
except ConfigError as error:
    print(error)
"""


def test_a_cluster_that_runs_already_is_used_and_left_running(ray_pool_2: RayPool) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", FROM_OUTSIDE, address],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1] / "support",
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "[(3, 9), (4, 16)]"
    assert "a job takes 64 CPUs, but the largest machine has 2" in second
    assert list(ray_pool_2.map(square, 0, [5])) == [(5, 25)]
