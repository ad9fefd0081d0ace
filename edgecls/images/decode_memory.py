"""Limits the memory of decoding for all threads together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Smaller pictures need little memory and do not wait.
SMALL_PIXELS = 2**20
# malloc keeps freed blocks for the thread, such as Pillow's of 16 MB, but not those above 32 MB.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]


class Room:
    """Room for a number of pixels that threads share; a picture larger than all of it is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._empty()
        if hasattr(os, "register_at_fork"):
            # The threads that hold room do not exist in the child, and would never release it.
            os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        self._changed = threading.Condition()
        self._held = 0

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for room for a picture of so many pixels, and hold it during the block."""
        if pixels < SMALL_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


def map_rows(function: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return `function` of the values as uint8, computed for a few rows at a time to save memory."""
    result = np.empty(values.shape, np.uint8)
    rows = max(1, SMALL_PIXELS // values.shape[1])
    for start in range(0, len(values), rows):
        result[start : start + rows] = function(values[start : start + rows])
    return result
