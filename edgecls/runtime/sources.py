"""Find the images that a file, folder or pattern stands for, and those that appear in a watched folder.

Imports `errors` and `folders` only: nothing here opens an image.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from edgecls.errors import DataError
from edgecls.folders import IMAGE_SUFFIXES

POLL_S = 0.25
# Size and time of change: who writes a file changes one of them.
_Stamp = tuple[int, int]


def find_images(path: Path) -> Iterator[Path]:
    """Yield the images that a path stands for, sorted: those in a folder and below it, or of a pattern like "*.png".

    Of a folder, files with a suffix in `IMAGE_SUFFIXES`, hidden ones left out. A path that stands for nothing is
    yielded itself, so that reading it says what is wrong with it.

    Raises:
        DataError: a folder cannot be listed.
    """
    found: Iterator[Path] = iter(())
    if path.is_dir():
        found = _walk(path)
    elif glob.has_magic(str(path)) and not path.exists():
        # Path.glob takes no absolute pattern.
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        found = (image for match in matches for image in find_images(Path(match)))
    yield next(found, path)
    yield from found


def watch_folder(folder: Path, poll_s: float = POLL_S) -> Iterator[Path]:
    """Return an endless iterator over images that appear or change in a folder from this call on.

    An image comes once two looks in a row find it unchanged, as it may still be being written. One whose writer paused
    for longer comes again when it is complete. Folders below, hidden files and other suffixes than `IMAGE_SUFFIXES` are
    left out.

    Args:
        folder: looked at again and again; no service of the operating system is needed.
        poll_s: seconds between two looks.

    Raises:
        DataError: the folder cannot be listed, now or later.
    """
    return _changes(folder, _stamps(folder), poll_s)


def _changes(folder: Path, known: dict[Path, _Stamp], poll_s: float) -> Iterator[Path]:
    last: dict[Path, _Stamp] = {}
    while True:
        time.sleep(poll_s)
        found = _stamps(folder)
        for path, stamp in found.items():
            if stamp == last.get(path) != known.get(path):
                known[path] = stamp
                yield path
        last = found
        # What is gone is forgotten: a watch may run for years.
        known = {path: stamp for path, stamp in known.items() if path in found}


def _stamps(folder: Path) -> dict[Path, _Stamp]:
    """Return the stamp of every image in the folder, in the order of names, but of empty files."""
    stamps = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # A file may be moved away while we look.
                with contextlib.suppress(FileNotFoundError):
                    if is_image(entry.name) and entry.is_file() and (status := entry.stat()).st_size:
                        stamps[folder / entry.name] = (status.st_size, status.st_mtime_ns)
    except OSError as error:
        _fail(error)
    return dict(sorted(stamps.items()))


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image in a folder."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _walk(folder: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_image(name):
                yield Path(directory, name)


def _fail(error: OSError) -> NoReturn:
    raise DataError(
        f"cannot list folder {error.filename}: {error.strerror}; check the path and its permissions"
    ) from error
