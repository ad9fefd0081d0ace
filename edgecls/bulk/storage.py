"""Files at URLs. pyarrow is imported on use.

pyarrow opens s3://, gs://, hdfs:// and file:// itself, with the credentials of each cloud's own tools. Others, such as
https:// and az://, go through fsspec and its package for them. URLs are percent-encoded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, unquote

from edgecls.errors import ConfigError, DataError, MissingDependency, StorageError
from edgecls.images.leftovers import LeftOut, in_folder, leftover_folder, leftover_results
from edgecls.images.walk import HEAD_BYTES, is_image, keep_files
from edgecls.limits import MAX_FILE_BYTES

# Cached file systems; each keeps its connections open.
_MOST_FOLDERS = 64


def is_url(name: str) -> bool:
    """Return whether a name is a URL, not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None


def import_arrow(module: str) -> Any:
    """Return a module of pyarrow.

    Raises:
        MissingDependency: it is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingDependency("URLs and Parquet files need pyarrow: pip install 'edgecls[ray]'")
    return importlib.import_module(f"pyarrow.{module}")


def read_file(url: str) -> bytes:
    """Return the bytes at a URL.

    Raises:
        DataError: no such file, or too large. ConfigError: a URL of an unknown kind.
        StorageError: the storage does not answer or refuses access.
    """
    with _storage_named(url):
        filesystem, path = open_url(url)
        # Checked first, because each storage raises another error for a missing file.
        info = filesystem.get_file_info(path)
        if info.type != import_arrow("fs").FileType.File:
            raise DataError(f"cannot open image {url}: no such file; check the URL")
        if info.size is not None and info.size > MAX_FILE_BYTES:
            raise DataError(f"image {url} has {info.size} bytes; at most {MAX_FILE_BYTES} are read. Make it smaller")
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read(MAX_FILE_BYTES))


def open_stream(url: str) -> io.BufferedReader:
    """Return the file that a URL names, to be read from its beginning; raise as `read_file` does."""
    try:
        with _storage_named(url):
            filesystem, path = open_url(url)
            return io.BufferedReader(filesystem.open_input_stream(path))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise DataError(f"cannot open {url}: no such file; check the URL") from error
        raise


def list_files(url: str, left_out: LeftOut, wanted: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yield the URLs of the images in and below a folder, sorted in each; of a file, itself.

    Folders come after the files beside them. One folder at a time is held in memory. A URL that stands for nothing is
    yielded itself, so that reading it says so.

    Args:
        url: of a folder or file.
        left_out: counts the files that are no images, and those of folders that systems leave behind.
        wanted: whether a file of a name is to be yielded; None takes images, by the rule of `walk`.

    Raises:
        StorageError: the storage does not answer or refuses access. ConfigError: a URL of an unknown kind.
    """
    with _storage_named(url):
        filesystem, path = open_url(url)
        is_folder = filesystem.get_file_info(path).type == import_arrow("fs").FileType.Directory
    if not is_folder:
        yield url
        return
    base, mark, query = url.partition("?")
    found = (file for file in _walk(filesystem, path.rstrip("/"), left_out) if keep_files([_leaf(file)], left_out))
    if wanted is None:
        found = (file for file in found if _is_image(filesystem, file, left_out))
    else:
        found = (file for file in found if wanted(_leaf(file)))
    urls = (base.rstrip("/") + quote(file[len(path.rstrip("/")) :]) + mark + query for file in found)
    yield next(urls, url)
    yield from urls


def _is_image(filesystem: Any, file: str, left_out: LeftOut) -> bool:
    def head() -> bytes:
        with _storage_named(file), filesystem.open_input_stream(file) as stream:
            return bytes(stream.read(HEAD_BYTES))

    found = is_image(_leaf(file), head)
    if not found:
        left_out.add_unknown(_leaf(file))
    return found


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]


def _walk(filesystem: Any, folder: str, left_out: LeftOut, *, is_top: bool = True) -> Iterator[str]:
    fs = import_arrow("fs")
    with _storage_named(folder):
        entries = filesystem.get_file_info(fs.FileSelector(folder, recursive=False))
    entries = sorted(entries, key=lambda each: each.base_name)
    names = {each.base_name for each in entries if each.type == fs.FileType.File}
    if not is_top and (kind := leftover_results(_leaf(folder), names.__contains__)):
        left_out.add(in_folder(kind), sum(1 for _ in _walk(filesystem, folder, LeftOut())))
        return
    yield from (each.path for each in entries if each.type == fs.FileType.File)
    for each in entries:
        if each.type == fs.FileType.Directory:
            inner = each.path.rstrip("/")
            if kind := leftover_folder(_leaf(inner)):
                left_out.add(in_folder(kind), sum(1 for _ in _walk(filesystem, inner, LeftOut())))
            else:
                yield from _walk(filesystem, inner, left_out, is_top=False)


@contextlib.contextmanager
def _storage_named(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot read {url}: {error}. Check the address, the network and the credentials, then run the same "
            "command again"
        ) from error


def open_url(url: str) -> tuple[Any, str]:
    """Return the pyarrow file system of a URL and the path in it.

    Raises:
        ConfigError: a URL of an unknown kind. MissingDependency: the package for it is not installed.
        OSError: the storage does not answer or refuses access.
    """
    base, mark, query = url.partition("?")
    folder, _, leaf = base.rstrip("/").rpartition("/")
    if folder.endswith("/") or not folder:
        # A bucket or a host has no parent folder.
        return _open(url)
    filesystem, path = _open(folder + mark + query)
    return filesystem, f"{path.rstrip('/')}/{unquote(leaf)}"


@functools.lru_cache(_MOST_FOLDERS)
def _open(url: str) -> tuple[Any, str]:
    fs, lib = import_arrow("fs"), import_arrow("lib")
    try:
        filesystem, path = fs.FileSystem.from_uri(url)
        return filesystem, str(path)
    except (lib.ArrowInvalid, lib.ArrowNotImplementedError) as error:
        if find_spec("fsspec") is None:
            raise MissingDependency(f"pyarrow cannot open {url} ({error}); fsspec may: pip install fsspec") from error
    fsspec = importlib.import_module("fsspec")
    try:
        other, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependency(f"cannot open {url}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"cannot open {url}: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(other)), str(path)
