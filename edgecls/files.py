"""Atomic writes, checksums and locks. Imports the standard library and the errors, and filelock on use."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgecls.errors import ConfigError

TEMPORARY_SUFFIX = ".tmp"
LOCK_NAME = ".lock"
SHA256 = "sha256"
# What zipfile, numpy, h5py and pickle raise when they read a file that is cut off or changed.
DAMAGE_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file `path` by one with this content; a reader sees the old or the new file, never a part.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file stays.
    """
    # Not from tempfile, whose files only the owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            # Without this a power cut could leave an empty file under the new name.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_rendered(path: Path, render: Callable[[io.BytesIO], object]) -> None:
    """Replace the file `path` by what `render` writes into a buffer; create its folder if needed."""
    buffer = io.BytesIO()
    render(buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def json_sha256(value: object) -> str:
    """Return the sha256 of a JSON document, independent of spacing and order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Return the JSON document in the file `path`.

    Raises:
        ValueError: not a file, not JSON, or nested too deeply. OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError("it is no file")
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_checked(path: Path) -> Any:
    """Return the JSON document in the file `path` without its checksum, which is checked if present.

    Raises:
        ValueError: as `read_json`, or the checksum differs. OSError: it cannot be read.
    """
    document = read_json(path)
    try:
        # Older versions wrote no checksum.
        if isinstance(document, dict) and document.pop(SHA256, None) not in (None, json_sha256(document)):
            raise ValueError("it was changed: its sha256 differs")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return document


def write_checked(path: Path, document: dict[str, Any]) -> None:
    """Replace the file `path` by one with this JSON document and its checksum."""
    write_json(path, document | {SHA256: json_sha256(document)})


def write_json(path: Path, value: object) -> None:
    """Replace the file `path` by one with this JSON document, in UTF-8."""
    # A byte of a file name that is not text becomes a JSON escape, \udc80 to \udcff.
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def check_survives(out: Path, inputs: Iterable[Path | str]) -> None:
    """Raise ConfigError if a file or folder that a command reads lies in the folder `out`, which it replaces."""
    for path in inputs:
        if Path(path).resolve().is_relative_to(out.resolve()):
            raise ConfigError(f"{path} would be lost, as {out} is replaced with all that is in it; give another --out")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`; no process may be writing into it."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink()


def sync_files(folder: Path) -> None:
    """Flush every file in `folder` to the disk, so that a power cut cannot empty it."""
    for path in folder.rglob("*"):
        if path.is_file():
            # Windows syncs only what is open for writing.
            with path.open("rb" if sys.platform != "win32" else "rb+") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Lock `path` against other processes; the lock ends with this process, even if it is killed.

    Args:
        path: a file, which is created if missing and stays, or a folder, which holds a hidden file meanwhile.
        wait: False to fail at once if another process holds it.
        on_wait: called before a wait begins.

    Raises:
        BlockingIOError: another process holds it.
    """
    # Predicting alone needs no lock and no wait for this import.
    from filelock import FileLock, Timeout

    in_folder = path.is_dir()
    file = path / LOCK_NAME if in_folder else path
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path)) from error
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        # Before the release: a process that waits sees that it is gone and makes a new one. Windows keeps open files.
        if in_folder and sys.platform != "win32":
            file.unlink(missing_ok=True)
        lock.release()
