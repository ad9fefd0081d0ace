"""Arrays that live in files, so that a folder of any size fits into little memory. Imports numpy only.

The system moves pages of such an array between memory and disk by itself; `forget_pages` returns those already used, so
that a process that reads 60,000 images holds no more memory than one that reads 5,000.
"""

from __future__ import annotations

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
    """Return the folder for what can be computed again: $XDG_CACHE_HOME/edgecls, by default ~/.cache/edgecls."""
    # The specification (XDG Base Directory 0.8) has an empty or a relative value ignored.
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else Path.home() / ".cache") / "edgecls"


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


def forget_pages(array: NDArray[Any]) -> None:
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
