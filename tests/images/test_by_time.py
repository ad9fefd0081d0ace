from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from folder_trees import touch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.images.by_time import read_times, split_by_time

FRACTIONS = {"val": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("20261126T150613123-9f1c2a.jpg", "20261126T150613124-000000.jpg"),
        ("IMG_20261126_150613.jpg", "IMG_20261126_150614.jpg"),
        ("2026-11-26 15.06.13.png", "2026-11-26 16.00.00.png"),
        ("2026-11-26T15:06:13,5.png", "2026-11-26T15:06:14.png"),
    ],
)
def test_times_are_read_from_names(tmp_path: Path, early: str, late: str) -> None:
    times, source = read_times(tmp_path, [f"a/{late}", f"b/{early}"])
    assert times[f"b/{early}"] < times[f"a/{late}"] < times[f"b/{early}"] + 3600
    assert source == "the time in their names"


def test_without_times_in_all_names_files_are_asked(tmp_path: Path) -> None:
    touch(tmp_path, "a/20261126_150613.png", "a/1.png", "a/20269926_150613.png")
    paths = ["a/20261126_150613.png", "a/1.png", "a/20269926_150613.png"]
    for number, path in enumerate(paths):
        os.utime(tmp_path / path, (number, 100 - number))
    times, source = read_times(tmp_path, paths)
    assert list(times.values()) == [100, 99, 98] and "last change" in source


def test_an_archive_has_the_order_of_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.png", b"")
        archive.writestr("a/2.png", b"")
    times, source = read_times(tmp_path / "a.zip", ["a/2.png", "a/1.png"])
    assert times["a/1.png"] < times["a/2.png"] and source == "the order of their names"


@settings(max_examples=100)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=60), st.booleans(), st.booleans())
def test_parts_follow_each_other_in_time(seconds: list[int], is_known: bool, has_test: bool) -> None:
    times = {f"{number}.png": float(second) for number, second in enumerate(seconds)}
    fractions = FRACTIONS if has_test else {"val": 0.15}
    parts = split_by_time({"cat": list(times)}, fractions, times, ["cat"] if is_known else [])
    found = [parts[part]["cat"] for part in ("train", *fractions)]
    order = [path for paths in found for path in paths]
    assert sorted(order) == sorted(times) and [times[path] for path in order] == sorted(times.values())
    assert found[0]
    if not is_known and len(seconds) > len(fractions):
        assert all(found)
    for paths, fraction in zip(found[1:], fractions.values(), strict=True):
        assert len(paths) <= max(1, 1.5 * round(len(seconds) * fraction))


def test_parts_meet_at_the_longest_pause() -> None:
    # Bursts of frames: after the 78th second comes a pause, and the wanted test images begin at 85.
    times = {f"{second}.png": float(second + 1000 * (second >= 80) + 60 * (second >= 64)) for second in range(100)}
    parts = split_by_time({"cat": list(times)}, FRACTIONS, times, [])
    assert parts["test"]["cat"][0] == "80.png" and parts["val"]["cat"][0] == "64.png"
