"""The cache of features on a disk: after crashes, with little room, and in use by several processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_cache import Counter, all_of, assert_right, compute, random_images
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.errors import TrainingError
from edgecls.files import locked
from edgecls.images.dataset import sha256_of_each
from edgecls.training.features import files
from edgecls.training.features.cache import AugmentedCopy, cached_features, prune
from edgecls.training.features.forward import BATCH_SIZE

# Computes slowly, notes each image it computed, and says so when it is done.
COMPUTE = """
import sys, time
from pathlib import Path
import numpy as np
from edgecls.training.features import files
from edgecls.images.dataset import sha256_of_each
from edgecls.training.features.cache import AugmentedCopy, cached_features
from edgecls.training.features.forward import Forward
files.IMAGES_A_FLUSH = 32
images = np.random.default_rng(300).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
def run(batch):
    time.sleep(0.03)
    with open(sys.argv[2], "a") as log:
        log.write(f"{int((batch.any(axis=(1, 2, 3))).sum())}\\n")
    return batch.astype(np.float32).reshape(len(batch), -1)[:, :5]
print("begun", flush=True)
digests = sha256_of_each(images)
cached_features({}, lambda: Forward("fake", "", run), images, digests, AugmentedCopy(), cache=Path(sys.argv[1]))
print("done")
"""


# Crashes


def cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(share * path.stat().st_size))


@settings(max_examples=40)
@given(rows=st.floats(0, 1) | st.just(1.0), index=st.floats(0, 1) | st.just(1.0), known=st.integers(1, 70))
def test_files_cut_short_at_any_place_are_fixed(
    tmp_path_factory: pytest.TempPathFactory, rows: float, index: float, known: int
) -> None:
    cache, images = tmp_path_factory.mktemp("cut"), random_images(70)
    compute(cache, images[:known])
    (folder,) = cache.iterdir()
    cut(folder / "rows.f16", rows)
    cut(folder / "images.index", index)
    left = (folder / "images.index").stat().st_size // 40
    if (folder / "rows.f16").stat().st_size < left * 8:
        # No crash leaves that: the rows that are there may be anything too.
        left = 0
    features, forward = compute(cache, images)
    assert forward.images == 70 - left
    assert_right(features, images)
    assert compute(cache, images)[1].asked == 0
    shutil.rmtree(cache)


@pytest.mark.parametrize("name", ["rows.f16", "images.index", "shape.json"])
def test_a_missing_file_makes_all_of_them_again(tmp_path: Path, name: str) -> None:
    images = random_images(40)
    compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    (folder / name).unlink()
    features, forward = compute(tmp_path, images)
    assert forward.images == 40
    assert_right(features, images)


@pytest.mark.parametrize("after", [0, BATCH_SIZE, 3 * BATCH_SIZE])
def test_ctrl_c_keeps_what_was_computed(tmp_path: Path, after: int) -> None:
    images = random_images(150)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, images, forward=Counter(fail_after=after))
    features, forward = compute(tmp_path, images)
    assert forward.images == 150 - after
    assert_right(features, images)


def start_computing(cache: Path, log: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", COMPUTE, cache, log], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def check_computed(cache: Path) -> None:
    images = np.random.default_rng(300).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    none = cached_features(
        {}, lambda: pytest.fail("asked"), images, sha256_of_each(images), AugmentedCopy(), cache=cache
    )
    np.testing.assert_array_equal(all_of(none), images.reshape(300, -1)[:, :5].astype(np.float16))


def test_a_killed_process_leaves_what_it_flushed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for delay in (0.08, 0.15):
        process = start_computing(tmp_path / "cache", log)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "done" in start_computing(tmp_path / "cache", log).communicate()[0]
    check_computed(tmp_path / "cache")
    computed = sum(map(int, log.read_text().split()))
    # Each kill repeats at most one flush and one batch.
    assert 300 <= computed <= 300 + 2 * 2 * 32


def test_two_processes_at_once_compute_each_image_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start_computing(tmp_path / "cache", log) for _ in range(2)]
    assert all("done" in process.communicate()[0] for process in processes)
    assert sum(map(int, log.read_text().split())) == 300
    check_computed(tmp_path / "cache")


# No room

Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(100)
    # Eight bytes an image.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 799, 799))
    with pytest.raises(TrainingError, match=r"features need .* GB and .* free; .*XDG_CACHE_HOME .*--augmented-copies"):
        compute(tmp_path, images)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 800, 800))
    assert_right(compute(tmp_path, images)[0], images)


class _Full:
    """A file that takes some bytes and then is on a full disk."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> None:
        taken = bytes(data)[: self._room]
        self._file.write(taken)
        self._room -= len(taken)
        if len(taken) < memoryview(data).nbytes:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("full", ["rows", "index"])
def test_a_disk_that_fills_up_meanwhile_is_said_and_costs_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    images = random_images(100)
    real = files.Writer

    def writer(rows: Any, index: Any, start: int) -> Any:
        return real(_Full(rows, 601), index, start) if full == "rows" else real(rows, _Full(index, 41), start)

    with monkeypatch.context() as patch:
        patch.setattr(files, "Writer", writer)
        with pytest.raises(
            TrainingError, match=r"cannot be kept in .*: No space left.*XDG_CACHE_HOME .*--augmented-copies"
        ):
            compute(tmp_path, images)
    features, forward = compute(tmp_path, images)
    assert forward.images == {"rows": 100 - 2 * BATCH_SIZE, "index": 99}[full]
    assert_right(features, images)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot be kept in .*file/cache.*: Not a directory; .*XDG_CACHE_HOME"):
        compute(tmp_path / "file" / "cache", random_images(1))


# Two runs at once


def test_who_waits_for_another_run_says_so_and_computes_nothing(tmp_path: Path) -> None:
    images = random_images(5)
    compute(tmp_path, images)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    calls: list[tuple[object, ...]] = []
    lock = locked(folder / "lock")
    lock.__enter__()

    def hear(*call: object) -> None:
        calls.append(call)
        # The other run is done.
        lock.__exit__(None, None, None)

    features, counter = compute(tmp_path, images, progress=hear)
    assert calls == [(0, 5, "waiting for another run that computes them")] and counter.asked == 0
    assert_right(features, images)


# Pruning


def fill(cache: Path, sizes: Sequence[int]) -> list[Path]:
    """Make folders of these sizes, the first used longest ago."""
    folders = []
    for number, size in enumerate(sizes):
        folder = cache / f"{number:032x}"
        folder.mkdir(parents=True)
        (folder / "rows.f16").write_bytes(bytes(size))
        os.utime(folder, (1000 + number, 1000 + number))
        folders.append(folder)
    return folders


@pytest.mark.parametrize(("most", "left"), [(60, [0, 1, 2]), (59, [1, 2]), (50, [1, 2]), (49, [2]), (29, [])])
def test_the_longest_unused_go_until_the_rest_is_small_enough(tmp_path: Path, most: int, left: list[int]) -> None:
    folders = fill(tmp_path, [10, 20, 30])
    prune(tmp_path, most)
    assert [number for number, folder in enumerate(folders) if folder.exists()] == left


def test_use_makes_a_folder_young(tmp_path: Path) -> None:
    images = random_images(3)
    compute(tmp_path, images)
    (used,) = (path for path in tmp_path.iterdir() if path.is_dir())
    os.utime(used, (1, 1))
    (other,) = fill(tmp_path, [1000])
    compute(tmp_path, images)
    prune(tmp_path, 500)
    assert used.exists() and not other.exists()


def test_a_folder_that_is_being_filled_stays(tmp_path: Path) -> None:
    first, second = fill(tmp_path, [10, 10])
    with locked(first / "lock"):
        prune(tmp_path, 5)
    assert first.exists() and not second.exists()


def test_without_a_cache_there_is_nothing_to_prune(tmp_path: Path) -> None:
    prune(tmp_path / "none")
    assert not any(tmp_path.iterdir())
