from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgecls.files import locked, read_json, remove_leftovers, sync_files, write_atomically, write_json

HOLD = """
import sys, time
from pathlib import Path
from edgecls.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
REWRITE = """
import sys, itertools
from pathlib import Path
from edgecls.files import write_atomically
print("begun", flush=True)
for number in itertools.count():
    write_atomically(Path(sys.argv[1]), bytes([number % 251]) * 300_000)
"""
LIMITED = """
import resource, sys
from pathlib import Path
from edgecls.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_atomically(Path(sys.argv[1]), bytes(60_000))
except OSError as error:
    print(error.strerror)
"""


def start(code: str, *arguments: Path) -> subprocess.Popen[str]:
    """Return a process that has printed its first line."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


# write_atomically


def test_a_file_is_made_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in (b"first", b"", b"second" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_file_may_be_read_by_whom_the_user_lets_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


class _Failing:
    """A file whose `write` gets half of its data onto the disk and then fails."""

    def __init__(self, file: Any, error: BaseException) -> None:
        self._file, self._error = file, error

    def __enter__(self) -> _Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        raise self._error


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
def test_after_a_failure_the_old_file_is_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    real = Path.open

    def fail(self: Path, *args: Any, **kwargs: Any) -> Any:
        return _Failing(real(self, *args, **kwargs), error)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(Path, "open", fail)
        write_atomically(path, b"new content")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_takes_a_part_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = {bytes([number]) * 200_000 for number in range(3)}
    write_atomically(path, next(iter(contents)))
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for content in contents:
                write_atomically(path, content)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        assert all(path.read_bytes() in contents for _ in range(200))
    finally:
        stop.set()
        writer.join()


def test_a_process_killed_while_writing_leaves_a_whole_file_and_leftovers_that_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for delay in (0.0, 0.011, 0.037, 0.083):
        process = start(REWRITE, path)
        time.sleep(delay)
        kill(process)
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 300_000 and len(set(content)) == 1
    path.touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_only_our_leftovers_are_removed(tmp_path: Path) -> None:
    kept = {tmp_path / name for name in ("a.tmp", ".hidden", "b")}
    for path in (*kept, tmp_path / ".a.0011.tmp"):
        path.touch()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == kept


def test_every_file_below_a_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / "a", tmp_path / "deep" / "b"]
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    for path in paths:
        path.write_text("content")
    sync_files(tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)


# locked


def test_a_lock_keeps_other_processes_out_until_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    with locked(path, wait=False):
        pass
    assert path.exists()


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = start(HOLD, path)
    with pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    kill(process)
    with locked(path, wait=False):
        pass


def test_who_waits_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = start(HOLD, path)
    timer = threading.Timer(0.2, process.kill)
    began = time.monotonic()
    timer.start()
    with locked(path):
        assert time.monotonic() - began > 0.15
    process.communicate()


def test_the_lock_of_a_folder_leaves_no_file_in_it(tmp_path: Path) -> None:
    with locked(tmp_path, wait=False), pytest.raises(BlockingIOError):
        with locked(tmp_path, wait=False):
            pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    for wrong in (path, tmp_path):
        with pytest.raises(ValueError, match="it is no file"):
            read_json(wrong)
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_json(path)
    write_json(path, {"a": [1]})
    assert read_json(path) == {"a": [1]}
