"""The one walk through folders and the one rule for what is an image file: its suffix, or else its first bytes.

Links are followed. A folder is entered once, however many links lead to it. Links to one file are different images,
because each has its own name; training warns of images that are identical.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from edgecls.errors import DataError
from edgecls.images import archive
from edgecls.images.leftovers import LeftOut, in_folder, leftover_file, leftover_folder, leftover_results

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm", ".pnm"),
)
# The first bytes of these. Of a BMP also the length of its header, as two letters prove nothing.
_HEAD = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|II[*+]\0|MM\0[*+]|RIFF....WEBP|P[1-6](?:#|\s+[#\d])|"
    rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
HEAD_BYTES = 32


def walk(folder: Path, left_out: LeftOut) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder from `folder` down with the sorted names in it, entering none that systems leave behind.

    Raises:
        DataError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"cannot list folder {error.filename}: {error.strerror}; check its permissions") from error

    if (inside := archive.find_archive(folder)) is not None:
        yield from _walk_archive(*inside, left_out)
        return
    # Links back to where we came from are loops, and would bring one class's images into another.
    above = Path(os.path.abspath(folder)).parent.resolve()  # noqa: PTH100  # "." has no parent
    seen = {*folder.resolve().parents, above, *above.parents}
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = Path(directory).resolve()
        if real in seen:
            left_out.add_link()
            folders.clear()
            continue
        seen.add(real)
        for name in list(folders):
            inner = os.path.join(directory, name)  # noqa: PTH118
            if kind := leftover_folder(name) or leftover_results(name, functools.partial(_is_file, inner)):
                folders.remove(name)
                left_out.add_folder(inner, kind)
        folders.sort()
        yield Path(directory), folders, sorted(files)


def _is_file(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))  # noqa: PTH113, PTH118


def _walk_archive(path: Path, name: str, left_out: LeftOut) -> Iterator[tuple[Path, list[str], list[str]]]:
    content = archive.open_archive(path)
    waiting, left = [name], Counter(content.left_out)
    while waiting:
        here = waiting.pop()
        for kind in (archive.LINK, archive.OUTSIDE, archive.AGAIN):
            left_out.add(kind, left[kind, here])
        folders, files = (sorted(names) for names in content.folders[here])
        for each in list(folders):
            inner = f"{here}/{each}".lstrip("/")
            if kind := leftover_folder(each) or leftover_results(each, content.folders[inner][1].__contains__):
                folders.remove(each)
                left_out.add(in_folder(kind), sum(name.startswith(f"{inner}/") for name in content.members))
        yield path / here, folders, files
        waiting += [f"{here}/{each}".lstrip("/") for each in reversed(folders)]


def list_folder(folder: Path, left_out: LeftOut | None = None) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files right in a folder, without what systems leave behind.

    Raises:
        DataError: it cannot be listed.
    """
    left_out = left_out or LeftOut()
    return next(((folders, keep_files(files, left_out)) for _, folders, files in walk(folder, left_out)), ([], []))


def is_image_in(folder: Path, name: str) -> bool:
    """Return whether a file in a folder is an image."""
    return is_image(name, lambda: read_head(folder / name))


def keep_files(names: list[str], left_out: LeftOut) -> list[str]:
    """Return these names of files without those of what systems leave behind, which are counted."""
    kept = []
    for name in names:
        if kind := leftover_file(name):
            left_out.add(kind)
        else:
            kept.append(name)
    return kept


def walk_images(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the image files in and below a folder; others are counted.

    Raises:
        DataError: a folder cannot be listed.
    """
    for directory, _, files in walk(folder, left_out):
        yield from keep_images(directory, keep_files(files, left_out), left_out)


def keep_images(directory: Path, names: list[str], left_out: LeftOut) -> Iterator[Path]:
    """Yield the paths of those files in a folder that are images; others are counted."""
    for name in names:
        path = directory / name
        if is_image(name, lambda path=path: read_head(path)):  # type: ignore[misc]
            yield path
        else:
            left_out.add_unknown(name)


def is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Return whether a file is an image: by its suffix, or else by its first `HEAD_BYTES`, which `head` reads."""
    return name.lower().endswith(IMAGE_SUFFIXES) or _HEAD.match(head()) is not None


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, b"" if it has none: a pipe, a socket, a device, or one that cannot be read."""
    if archive.find_archive(path):
        return (archive.read_member(path) or b"")[:HEAD_BYTES]
    try:
        # Asked before, as opening a pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
