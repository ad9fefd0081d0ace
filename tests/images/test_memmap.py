from __future__ import annotations

import errno
import gc
import os
import resource
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.images import memmap
from edgecls.images.memmap import cache_folder, chunks, forget_pages, new_array


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every array of more than 1000 bytes is mapped; returns the cache folder."""
    monkeypatch.setattr(memmap, "MOST_BYTES_IN_MEMORY", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edgecls"


def resident_bytes() -> int:
    """Return how much memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# The folder


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder() == Path("/some/where/edgecls")


@pytest.mark.parametrize("value", [None, "", "relative/path"])
def test_what_is_no_absolute_path_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == tmp_path / ".cache" / "edgecls"


@pytest.mark.parametrize("home", [None, "/dev/null"])
def test_without_a_home_the_cache_is_a_folder_of_this_user_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    def no_user(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", no_user)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    if home:
        monkeypatch.setenv("HOME", home)
    folder = cache_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == folder
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to another user; set XDG_CACHE_HOME"):
        cache_folder()


# Arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_large_arrays_are_mapped_and_small_ones_are_not(small: Path, dtype: type[np.generic]) -> None:
    size = np.dtype(dtype).itemsize
    little, large = (new_array((count, 10), dtype) for count in (100 // size, 100 // size + 1))
    assert not isinstance(little, np.memmap) and isinstance(large, np.memmap)
    for array in (little, large):
        assert array.dtype == dtype and not array.any()
        array[...] = 7
        assert (array == 7).all()


def test_the_file_has_no_name_and_goes_with_the_array(small: Path) -> None:
    def free() -> int:
        status = os.statvfs(small)
        return status.f_bavail * status.f_frsize

    small.mkdir()
    before = free()
    array = new_array((50 * 2**20,), np.uint8)
    assert not any(small.iterdir())
    during = free()
    del array
    gc.collect()
    # Others write to the same disk meanwhile: half is proof enough.
    assert before - during > 25 * 2**20 and free() - during > 25 * 2**20


def test_a_full_disk_shows_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        new_array((2000,), np.uint8)
    assert not new_array((10,), np.uint8).any()


def test_an_array_beyond_the_file_limit_shows_at_once(small: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            new_array((5000,), np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Memory


def test_forgotten_pages_cost_no_memory_and_keep_their_content(small: Path) -> None:
    array = new_array((64 * 2**20,), np.uint8)
    before = resident_bytes()
    array[:] = 3
    assert resident_bytes() - before > 60 * 2**20
    forget_pages(array[1000:2000])
    assert resident_bytes() - before < 10 * 2**20
    assert (array[::4096] == 3).all()


def test_other_arrays_are_left_alone() -> None:
    array = np.arange(5)
    forget_pages(array)
    np.testing.assert_array_equal(array, range(5))


@given(rows=st.integers(0, 40), columns=st.integers(1, 9), most=st.integers(1, 100))
def test_chunks_are_the_rows_in_order_and_not_too_many_at_a_time(rows: int, columns: int, most: int) -> None:
    array = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap, "CHUNK_BYTES", most)
        found = list(chunks(array))
    np.testing.assert_array_equal(np.concatenate([*found, array[:0]]), array)
    assert all(chunk.nbytes <= max(most, columns) for chunk in found)


def test_chunks_forget_what_was_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memmap, "CHUNK_BYTES", 4 * 2**20)
    array = new_array((64, 2**20), np.uint8)
    before, most, total = resident_bytes(), 0, 0
    for chunk in chunks(array):
        total += int(chunk.sum()) + len(chunk)
        most = max(most, resident_bytes() - before)
    assert total == 64 and most < 16 * 2**20
