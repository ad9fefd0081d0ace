from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.boards import cpus
from edgecls.boards.cpus import MAX_THREADS, default_threads


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def capacities(*values: int) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{i}/cpu_capacity": str(value) for i, value in enumerate(values)}


RK3588 = capacities(*[414] * 4, *[1024] * 4)
FIVE_BIG = capacities(250, *[1024] * 5)
PI = capacities(*[1024] * 4)


@pytest.mark.parametrize(
    ("files", "allowed", "expected"),
    [
        ({}, [0], 1),
        ({}, [0, 1, 2], 3),
        ({}, range(64), MAX_THREADS),
        (PI, range(4), 4),
        (RK3588, range(8), 4),
        (RK3588, [0, 1, 4], 1),
        (RK3588, [0, 1, 2], 3),
        (FIVE_BIG, range(3), 2),
        # A CPU whose capacity nobody tells: all count.
        (capacities(1024, 250), range(3), 3),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, range(4), 4),
        ({"sys/fs/cgroup/cpu.max": "250000 100000"}, range(4), 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, range(4), 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, range(4), 4),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            range(4),
            3,
        ),
        (
            {
                "proc/self/cgroup": "0::/system.slice/watch.service",
                "sys/fs/cgroup/system.slice/watch.service/cpu.max": "300000 100000",
            },
            range(4),
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/other\n0::/system.slice/watch.service",
                "sys/fs/cgroup/system.slice/watch.service/cpu.max": "max 100000",
                "sys/fs/cgroup/system.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/other/cpu.max": "100000 100000",
            },
            range(4),
            2,
        ),
    ],
)
def test_big_cores_that_are_free_for_us(
    files: dict[str, str], allowed: list[int], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed))
    assert default_threads(write(tmp_path, files)) == expected


def test_where_the_system_cannot_say_which_cpus_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((3, 3), (None, 1), (64, MAX_THREADS)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert default_threads(tmp_path) == expected


@given(st.lists(st.integers(1, 1024), min_size=1, max_size=12))
def test_never_none_never_more_than_allowed(values: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(len(values))))
        assert 1 <= default_threads(write(Path(folder), capacities(*values))) <= min(len(values), MAX_THREADS)


def test_this_machine() -> None:
    assert 1 <= default_threads() <= MAX_THREADS


@given(st.lists(st.integers(0, 500), unique=True))
def test_lists_of_cpus(numbers: list[int]) -> None:
    assert cpus._parse_cpus(",".join(map(str, numbers))) == numbers


def test_a_range_of_cpus() -> None:
    assert cpus._parse_cpus("0-2,8,10-11") == [0, 1, 2, 8, 10, 11]
