from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from edgecls.images import decode as decode_module
from edgecls.images.decode import load_gray
from edgecls.images.pillow import SMALL_PIXELS, Room, map_rows


class Watched:
    """Counts who is inside at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def visit(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.1)
        with self._lock:
            self.inside -= 1


@pytest.mark.parametrize(("pixels", "most"), [(SMALL_PIXELS - 1, 6), (SMALL_PIXELS, 3), (10 * SMALL_PIXELS, 1)])
def test_so_many_pixels_are_held_at_a_time(pixels: int, most: int) -> None:
    room, watched = Room(3 * SMALL_PIXELS), Watched()
    started = threading.Barrier(6)

    def decode() -> None:
        started.wait()
        with room.hold(pixels):
            watched.visit()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(decode) for _ in range(6)]:
            done.result()
    assert watched.most == most


@pytest.mark.filterwarnings("ignore:.*fork")
def test_room_is_given_back_after_an_error_and_is_empty_in_a_child() -> None:
    room = Room(SMALL_PIXELS)
    with pytest.raises(KeyError), room.hold(SMALL_PIXELS):
        raise KeyError
    with room.hold(SMALL_PIXELS):
        child = os.fork()
        if child == 0:
            with room.hold(SMALL_PIXELS):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_threads_decode_large_pictures_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # EXIF after the pixels: to look for it is to decode.
    Image.new("RGB", (1100, 1100), (90, 90, 90)).save(tmp_path / "a.png")
    watched, load = Watched(), PngImageFile.load

    def watch(self: PngImageFile) -> object:
        watched.visit()
        return load(self)

    monkeypatch.setattr(PngImageFile, "load", watch)
    monkeypatch.setattr(decode_module, "_ROOM", Room(SMALL_PIXELS))
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(lambda path: load_gray(path, 8, 8), [tmp_path / "a.png"] * 4):
            assert (pixels == 90).all()
    assert watched.most == 1


def test_memory_of_large_pictures_goes_back_to_the_system(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    Image.new("RGBA", (6000, 6000)).save(tmp_path / "a.png", compress_level=1)
    load_gray(np.zeros((9, 9), np.uint8), 8, 8)
    before = resident()
    # A pool's threads live on, and what malloc keeps for each with them.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: load_gray(path, 8, 8), [tmp_path / "a.png"] * 4))
        assert resident() - before < 200 * 2**20


@pytest.mark.parametrize("shape", [(1, 5), (1, 3 * SMALL_PIXELS), (2049, 1025), (5, 1)])
def test_rows_are_mapped_as_a_whole_would_be(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    parts = []

    def scale(part: np.ndarray) -> np.ndarray:
        parts.append(part.size)
        return (part.astype(np.uint32) + 128) // 257

    assert np.array_equal(map_rows(scale, values), (values.astype(np.uint32) + 128) // 257)
    assert max(parts) <= max(SMALL_PIXELS, shape[1])
