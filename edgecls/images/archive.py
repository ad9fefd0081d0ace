"""Images in a ZIP or tar file, read in place: the path of one is the archive's path and the name in it.

`photos.zip/cat/1.png` stands for the member cat/1.png of the file photos.zip. Nothing is written beside the archive. A
compressed tar file has no way to one member, so it is decompressed into a file without a name, once in a process.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edgecls.errors import DataError
from edgecls.images.memmap import cache_folder
from edgecls.limits import MAX_FILE_BYTES

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_OPENERS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError)
_DAMAGE += (zipfile.BadZipFile, tarfile.TarError)
# What is left out: symbolic links and hard links to nothing, names that lead out of the archive, and files that the
# same archive holds again, as tar and zip programs keep the last one.
LINK, OUTSIDE, AGAIN = "links in an archive", "outside of their archive (../)", "stored again later in their archive"


@dataclass(eq=False)
class Archive:
    """The content of one archive.

    Attributes:
        folders: name of a folder ("" is the top) -> names of the folders and of the files in it.
    """

    members: dict[str, Any]  # name -> what `read` takes, of each file
    read: Callable[[Any], bytes]  # returns the bytes of a member
    left_out: tuple[tuple[str, str], ...] = ()  # kind and folder of each file that is left out
    folders: dict[str, tuple[set[str], set[str]]] = field(default_factory=lambda: {"": (set(), set())})

    def __post_init__(self) -> None:
        """List the folders."""
        for name in (*self.members, *(posixpath.join(above, "") for _, above in self.left_out)):
            above, leaf = posixpath.split(name)
            files = self.folders.setdefault(above, (set(), set()))[1]
            if leaf:
                files.add(leaf)
            while above:
                inner, (above, leaf) = above, posixpath.split(above)
                self.folders.setdefault(inner, (set(), set()))
                self.folders.setdefault(above, (set(), set()))[0].add(leaf)


def find_archive(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a path leads into and the name in it, "" for the archive itself; None if into none."""
    for index, part in enumerate(path.parts):
        if part.lower().endswith(SUFFIXES) and (archive := Path(*path.parts[: index + 1])).is_file():
            return archive, "/".join(path.parts[index + 1 :])
    return None


def open_archive(path: Path) -> Archive:
    """Return the content of an archive, which is listed once as long as it does not change.

    Raises:
        DataError: it cannot be read.
    """
    try:
        status = path.stat()
        # By process: after a fork the two would share one position in the file.
        return _open(path, status.st_size, status.st_mtime_ns, os.getpid())
    except _DAMAGE as error:
        raise DataError(
            f"cannot read the archive {path} ({error}); repair it, or unpack it and pass the folder"
        ) from error


@functools.lru_cache(4)
def _open(path: Path, *_: int) -> Archive:
    return _open_zip(path) if zipfile.is_zipfile(path) else _open_tar(path)


def _open_zip(path: Path) -> Archive:
    # Its file may be read by several threads.
    file = zipfile.ZipFile(path)
    found = []
    for info in file.infolist():
        # Some programs of Windows write its separators.
        name = info.filename.replace("\\", "/") if info.create_system == 0 else info.filename
        if not info.is_dir() and not name.endswith("/"):
            found.append((_member_name(name), info))
    members, left_out = _last_of_each(found)
    return Archive(members, lambda info: file.read(_checked(info, info.file_size)), left_out)


def _open_tar(path: Path) -> Archive:
    file, lock = _decompressed(path), threading.Lock()
    places: dict[str, tuple[int, int]] = {}
    found, links = [], []
    with tarfile.open(fileobj=file, mode="r:") as listed:
        for info in listed:
            name, target = _member_name(info.name), _member_name(info.linkname)
            # A hard link is another name of a file that comes before it: tar stores its content once.
            place = (info.offset_data, info.size) if info.isreg() else places.get(target) if info.islnk() else None
            if place:
                places |= {name: place} if name else {}
                found.append((name, place))
            elif info.issym() or info.islnk():
                links.append((LINK, posixpath.dirname(name)))

    def read(place: tuple[int, int]) -> bytes:
        _checked(place, place[1])
        with lock:
            file.seek(place[0])
            return file.read(place[1])

    members, left_out = _last_of_each(found)
    return Archive(members, read, (*left_out, *links))


def _last_of_each(found: list[tuple[str, Any]]) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Return the last member of each name, and what is left out: the ones before it, and those without a name."""
    members: dict[str, Any] = {}
    left_out = []
    for name, member in found:
        if not name or name in members:
            left_out.append((AGAIN if name else OUTSIDE, posixpath.dirname(name)))
        if name:
            members[name] = member
    return members, tuple(left_out)


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((each for magic, each in _OPENERS if head.startswith(magic)), None)
    if opener is None:
        return path.open("rb")
    cache_folder().mkdir(parents=True, exist_ok=True)
    whole = tempfile.TemporaryFile(dir=cache_folder())
    with opener(path) as source:
        shutil.copyfileobj(source, whole, 1 << 20)
    whole.seek(0)
    return whole


def _member_name(name: str) -> str:
    """Return the member's name in one spelling; "" for one that leads out of the archive."""
    clean = posixpath.normpath(name.lstrip("/"))
    return "" if clean == "." or clean.startswith("..") else clean


def _checked(place: Any, size_bytes: int) -> Any:
    if size_bytes > MAX_FILE_BYTES:
        raise ValueError(f"it has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read")
    return place


def read_member(path: Path) -> bytes | None:
    """Return the bytes of the file in an archive that a path leads to; None if the path leads into no archive.

    Raises:
        DataError: the archive has no such file, or it is damaged or encrypted.
    """
    if (found := find_archive(path)) is None:
        return None
    archive = open_archive(found[0])
    if found[1] not in archive.members:
        raise DataError(f"cannot open image {path}: {found[0]} has no file {found[1]!r}")
    try:
        return archive.read(archive.members[found[1]])
    except _DAMAGE as error:
        raise DataError(f"cannot read {path} from its archive ({error}); repair it, or unpack it yourself") from error


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, on the disk or in an archive; an archive itself is one."""
    if path.is_dir():
        return True
    found = find_archive(path)
    return found is not None and found[1] in open_archive(found[0]).folders


def exists(path: Path) -> bool:
    """Return whether a path exists, on the disk or in an archive."""
    if os.path.exists(path):  # noqa: PTH110  # a name may be too long for Path
        return True
    found = find_archive(path)
    return found is not None and (is_folder(path) or found[1] in open_archive(found[0]).members)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, on the disk or in an archive.

    Raises:
        OSError: it cannot be read. DataError: its archive cannot be read.
    """
    content = read_member(path)
    return path.read_bytes() if content is None else content
