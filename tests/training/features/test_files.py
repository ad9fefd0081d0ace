"""The files of the feature cache after somebody else changed them: never believed, computed again, and said."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from feature_cache import AUGMENT, NETWORK, all_of, assert_right, compute, random_images

from edgecls.training.features.cache import AugmentedCopy

COUNT, ROW, ENTRY = 70, 8, 40


def change(path: Path, edit: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)


def flip(at: float) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        data[int(at * (len(data) - 1))] ^= 4

    return edit


def zero(data: bytearray) -> None:
    data[:] = bytes(len(data))


def swap(size: int) -> Callable[[bytearray], None]:
    """Exchange the first entry and one of the last."""

    def edit(data: bytearray) -> None:
        last = len(data) - 3 * size
        data[:size], data[last : last + size] = data[last : last + size], data[:size]

    return edit


def reverse_rows(data: bytearray) -> None:
    data[:] = np.frombuffer(bytes(data), np.uint8).reshape(-1, ROW)[::-1].tobytes()


DAMAGE: dict[str, tuple[str, Callable[[bytearray], object]]] = {
    "first bit of the rows": ("rows.f16", flip(0)),
    "bit in the rows": ("rows.f16", flip(0.6)),
    "last bit of the rows": ("rows.f16", flip(1)),
    "rows of zeros": ("rows.f16", zero),
    "two rows swapped": ("rows.f16", swap(ROW)),
    "rows in another order": ("rows.f16", reverse_rows),
    "no rows": ("rows.f16", bytearray.clear),
    "half of the rows": ("rows.f16", lambda data: data.__delitem__(slice(len(data) // 2, None))),
    "a row too many in front": ("rows.f16", lambda data: data.__setitem__(slice(0), bytes(ROW))),
    "index of zeros": ("images.index", zero),
    "bit in the index": ("images.index", flip(0.5)),
    "two entries swapped": ("images.index", swap(ENTRY)),
    "an entry gone": ("images.index", lambda data: data.__delitem__(slice(ENTRY))),
    "no shape": ("shape.json", bytearray.clear),
    "half a shape": ("shape.json", lambda data: data.__delitem__(slice(4, None))),
    "another shape of as many numbers": ("shape.json", lambda data: data.__setitem__(slice(None), b"[4, 1, 1]")),
}
SHAPES = ["null", "{}", "[0]", "[]", "[-1]", '["2"]', "[2.0, 2, 1]", "[NaN]", "[true]", "[1e99]", f"[{10**40}]"]
SHAPES += ["[" * 100_000, "[2, 2]", "[9, 9, 9]", "\xff"]
for shape in SHAPES:
    DAMAGE[f"shape {shape:.12}"] = "shape.json", lambda data, text=shape: data.__setitem__(slice(None), text.encode())  # type: ignore[misc]


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_changed_is_computed_again_and_said(tmp_path: Path, name: str) -> None:
    images, (file, edit) = random_images(COUNT), DAMAGE[name]
    compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    change(folder / file, edit)
    reported: list[str] = []
    features, forward = compute(tmp_path, images, progress=lambda done, total, note="": reported.append(note))
    assert_right(features, images)
    assert forward.images == COUNT
    (note,) = filter(None, reported)
    assert note.startswith(f"{folder} is damaged (") and note.endswith("), so these features are computed again")
    # A wrong index or shape may show in the rows first.
    assert file in note or re.search(r"(rows\.f16|images\.index) at image \d+", note)
    assert compute(tmp_path, images)[1].asked == 0


def test_files_of_another_network_or_view_are_not_believed(tmp_path: Path) -> None:
    images = random_images(COUNT)
    for network, copy in (({**NETWORK, "weights": "other"}, AugmentedCopy()), (NETWORK, AugmentedCopy(1, AUGMENT))):
        compute(tmp_path / "own", images)
        compute(tmp_path / "other", images[::-1], copy, network=network)
        ((own,), (other,)) = ((tmp_path / name).iterdir() for name in ("own", "other"))
        for name in ("rows.f16", "images.index", "shape.json"):
            shutil.copy(other / name, own / name)
            features, _ = compute(tmp_path / "own", images)
            assert_right(features, images)
        shutil.rmtree(own)
        other.rename(own)
        features, forward = compute(tmp_path / "own", images)
        assert forward.images == COUNT
        assert_right(features, images)
        shutil.rmtree(tmp_path / "own")
        shutil.rmtree(tmp_path / "other")


def test_only_the_rows_that_are_used_are_read_back(tmp_path: Path) -> None:
    images = random_images(COUNT)
    compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    change(folder / "rows.f16", flip(1))
    assert compute(tmp_path, images[:60])[1].asked == 0
    assert compute(tmp_path, images)[1].images == COUNT


def test_who_has_mapped_the_damaged_files_keeps_them(tmp_path: Path) -> None:
    images = random_images(COUNT)
    before, _ = compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    (folder / "images.index").unlink()
    compute(tmp_path, images[:3])
    assert_right(before, images)
    assert len(all_of(before)) == COUNT


def test_the_clock_decides_nothing(tmp_path: Path) -> None:
    images = random_images(COUNT)
    compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    for seconds in (0, 2**33):
        for path in (folder, *folder.iterdir()):
            os.utime(path, (seconds, seconds))
        assert compute(tmp_path, images)[1].asked == 0
    assert json.loads((folder / "shape.json").read_text()) == [2, 2, 1]
