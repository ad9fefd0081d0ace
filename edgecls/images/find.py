"""Find the images that a file, folder or pattern stands for, and those that appear in a watched folder.

What counts as an image is decided by `walk`: nothing here opens a file but to look at its first bytes.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from edgecls.errors import DataError
from edgecls.images.leftovers import LeftOut
from edgecls.images.walk import keep_files, keep_images, walk, walk_images

POLL_S = 0.25
# Size and time of change: who writes a file changes one of them.
_Stamp = tuple[int, int]


def find_images(path: Path, left_out: LeftOut | None = None) -> Iterator[Path]:
    """Yield the images that a path stands for, sorted: those in a folder and below it, or of a pattern like "*.png".

    A path that stands for nothing is yielded itself, so that reading it says what is wrong with it. So is every file
    of a pattern that names its suffix, as "*.gif" does, and every one that is given by its own name.

    Args:
        path: file, folder or pattern.
        left_out: counts the files of folders and patterns that are no images.

    Raises:
        DataError: a folder cannot be listed.
    """
    left_out = left_out or LeftOut()
    found: Iterator[Path] = iter(())
    if path.is_dir():
        found = walk_images(path, left_out)
    elif glob.has_magic(str(path)) and not path.exists():
        found = _match(path, left_out)
    yield next(found, path)
    yield from found


def _match(pattern: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the images of a pattern; of a folder that fits it, the images in and below it."""
    start = pattern.parts.index("**") if "**" in pattern.parts else len(pattern.parts)
    # Path.glob takes no absolute pattern.
    for top in map(Path, sorted(glob.glob(str(Path(*pattern.parts[:start]))))):  # noqa: PTH207
        if start == len(pattern.parts):
            yield from walk_images(top, left_out) if top.is_dir() else _keep(top, pattern, left_out)
        elif top.is_dir():
            yield from _match_below(top, pattern, pattern.parts[start:], left_out)


def _match_below(top: Path, pattern: Path, steps: tuple[str, ...], left_out: LeftOut) -> Iterator[Path]:
    """Yield the images whose path below `top`, or a folder above them, fits the steps, the first of which is "**".

    Not by glob itself, which follows links in circles, and gives a folder and then again what is in it.
    """
    for directory, _, files in walk(top, left_out):
        parts = directory.relative_to(top).parts
        inside = any(_fits(parts[:length], steps) for length in range(len(parts) + 1))
        for name in files:
            if _fits((*parts, name), steps):
                yield from _keep(directory / name, pattern, left_out)
            elif inside:
                yield from keep_images(directory, keep_files([name], left_out), left_out)


def _fits(parts: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    if not steps:
        return not parts
    if steps[0] == "**":
        return any(_fits(parts[start:], steps[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatch(parts[0], steps[0]) and _fits(parts[1:], steps[1:])


def _keep(path: Path, pattern: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield a file unless it is no image; always if the pattern that it fits names its suffix."""
    if path.suffix and pattern.name.lower().endswith(path.suffix.lower()):
        yield path
    else:
        yield from keep_images(path.parent, keep_files([path.name], left_out), left_out)


def watch_folder(folder: Path, poll_s: float = POLL_S, left_out: LeftOut | None = None) -> Iterator[Path]:
    """Return an endless iterator over images that appear or change in a folder from this call on.

    An image comes once two looks in a row find it unchanged, as it may still be being written. One whose writer paused
    for longer comes again when it is complete. Folders below are left out.

    Args:
        folder: looked at again and again; no service of the operating system is needed.
        poll_s: seconds between two looks.
        left_out: counts the files that appear and are no images.

    Raises:
        DataError: the folder cannot be listed, now or later.
    """
    return _changes(folder, _stamps(folder), poll_s, left_out or LeftOut())


def _changes(folder: Path, known: dict[Path, _Stamp], poll_s: float, left_out: LeftOut) -> Iterator[Path]:
    last: dict[Path, _Stamp] = {}
    while True:
        time.sleep(poll_s)
        found = _stamps(folder)
        for path, stamp in found.items():
            if stamp == last.get(path) != known.get(path):
                known[path] = stamp
                yield from keep_images(folder, keep_files([path.name], left_out), left_out)
        last = found
        # What is gone is forgotten: a watch may run for years.
        known = {path: stamp for path, stamp in known.items() if path in found}


def _stamps(folder: Path) -> dict[Path, _Stamp]:
    """Return the stamp of everything in the folder, in the order of names, but of folders and of empty files."""
    stamps = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if stamp := _stamp(entry):
                    stamps[folder / entry.name] = stamp
    except OSError as error:
        raise DataError(
            f"cannot list folder {error.filename}: {error.strerror}; check the path and its permissions"
        ) from error
    return dict(sorted(stamps.items()))


def _stamp(entry: os.DirEntry[str]) -> _Stamp | None:
    """Return the stamp of a file that is not empty, of a pipe, or of a link that leads nowhere, so that it is named."""
    try:
        status = entry.stat()
    except OSError:
        # Anything else may just have been moved away.
        return (-1, 0) if entry.is_symlink() else None
    if stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and not status.st_size):
        return None
    return status.st_size, status.st_mtime_ns
