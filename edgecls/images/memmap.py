"""Arrays that live in files, so that a folder of any size fits into little memory. Imports numpy only.

The system moves pages of such an array between memory and disk by itself; `forget_pages` returns those already used, so
that a process that reads 60,000 images holds no more memory than one that reads 5,000.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smaller arrays stay in memory: a board has no reason to write its SD card for them.
MOST_BYTES_IN_MEMORY = 256 * 2**20
CHUNK_BYTES = 32 * 2**20


def cache_folder() -> Path:
    """Return the folder for what can be computed again: $XDG_CACHE_HOME/edgecls, by default ~/.cache/edgecls.

    Without a home that can be written, as in a container, it is a folder of this user alone in $TMPDIR.

    Raises:
        OSError: no temporary folder can be used.
    """
    # The specification (XDG Base Directory 0.8) has an empty or a relative value ignored.
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if root.is_absolute():
        return root / "edgecls"
    # Path.home raises where neither $HOME nor a user's entry is; this leaves the "~".
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    folder = home / ".cache" / "edgecls"
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    return folder if home.is_absolute() and writable else _temporary_folder()


def _temporary_folder() -> Path:
    # Windows has no such numbers, and a temporary folder for each user.
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"edgecls-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # Others may make this name first, and then could change what is computed.
    if folder.is_symlink() or folder.stat().st_uid != user:
        raise PermissionError(errno.EPERM, "it belongs to another user; set XDG_CACHE_HOME to a folder", str(folder))
    return folder


def new_array(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array of zeros, in memory, or in a file without a name if it is large; the file goes with the array.

    Raises:
        OSError: the disk is full or the cache folder cannot be written.
    """
    size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size_bytes <= MOST_BYTES_IN_MEMORY:
        return np.zeros(shape, dtype)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        # Now, and not as a bus error in the middle of the work, is when a full disk should show.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        return np.memmap(file, dtype, "r+", shape=shape)


def forget_pages(array: object) -> None:
    """Return the memory of a mapped array to the system; its content stays in the file. Other arrays are left alone."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array in order, a moderate number at a time, and forget each when the next is asked for."""
    row_bytes = max(1, array[:1].nbytes)
    rows = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        forget_pages(array)
