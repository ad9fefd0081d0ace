from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgecls.errors import DataError
from edgecls.images.find import find_images, watch_folder
from edgecls.images.leftovers import LeftOut


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "deep/c.tiff", "deep/.thumb.png", ".cache/d.png", "notes.txt", "e.gif", "x[1].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return tmp_path / "photos"


def names(found: Iterator[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_stands_for_the_images_in_and_below_it(photos: Path) -> None:
    assert names(find_images(photos), photos) == ["a.JPG", "b.png", "x[1].png", "deep/c.tiff"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png", "x[1].png"]),
        # The rule for folders, unless the pattern names the suffix.
        ("?.*", ["a.JPG", "b.png"]),
        ("*.gif", ["e.gif"]),
        ("**/*.txt", ["notes.txt"]),
        ("*", ["a.JPG", "b.png", "deep/c.tiff", "x[1].png"]),
        ("**", ["a.JPG", "b.png", "x[1].png", "deep/c.tiff"]),
        ("**/deep", ["deep/c.tiff"]),
        ("**/c*", ["deep/c.tiff"]),
        ("de*", ["deep/c.tiff"]),
        # A file of this very name comes first.
        ("x[1].png", ["x[1].png"]),
        # Nothing fits: reading what was asked for tells.
        ("*.bmp", ["*.bmp"]),
        ("gone.png", ["gone.png"]),
        ("notes.txt", ["notes.txt"]),
    ],
)
def test_patterns_and_files(pattern: str, expected: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(find_images(photos / pattern), photos) == expected
    monkeypatch.chdir(photos)
    assert [path.as_posix() for path in find_images(Path(pattern))] == expected


def test_files_are_images_by_suffix_or_by_their_first_bytes(tmp_path: Path) -> None:
    for name, kind in (("1", "PNG"), ("2.0001", "JPEG"), ("3.dat", "BMP"), ("4.jfif", "JPEG"), ("5.x", "GIF")):
        Image.new("L", (4, 4)).save(tmp_path / name, kind)
    (tmp_path / "6").write_bytes(b"BM and P1 are no images")
    left_out = LeftOut()
    assert names(find_images(tmp_path, left_out), tmp_path) == ["1", "2.0001", "3.dat", "4.jfif"]
    assert "1 .x (not an image that can be read)" in str(left_out) and "Left out 2 files" in str(left_out)


@pytest.mark.parametrize("pattern", ["", "*", "**", "**/*.png"])
def test_links_are_followed_and_circles_end(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/deep/1.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "real")
    for number in range(3):
        (tmp_path / f"real/up{number}").symlink_to(root)
        (tmp_path / f"real/deep/self{number}").symlink_to(tmp_path / "real/deep")
    assert names(find_images(root / pattern), root) == ["a/deep/1.png"]


def test_the_current_folder_is_walked(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert [str(path) for path in find_images(Path())] == ["a.JPG", "b.png", "x[1].png", "deep/c.tiff"]


def test_a_pipe_among_images_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    left_out = LeftOut()
    # Reading it tells that it is no file.
    assert names(find_images(tmp_path, left_out), tmp_path) == ["pipe.png"]
    assert "1 without a suffix" in str(left_out)


def test_what_systems_leave_is_counted(photos: Path) -> None:
    (photos / "@eaDir/b.png").mkdir(parents=True)
    (photos / "@eaDir/b.png/SYNOPHOTO_THUMB_M.png").touch()
    (photos / "Thumbs.db").touch()
    left_out = LeftOut()
    assert names(find_images(photos, left_out), photos) == ["a.JPG", "b.png", "x[1].png", "deep/c.tiff"]
    assert str(left_out).startswith("Left out 6 files: 2 hidden files, 1 in @eaDir (")


def test_an_empty_folder_and_an_impossible_path_are_passed_on(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nul\0l"):
        assert list(find_images(path)) == [path]


def test_a_folder_that_cannot_be_listed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot list folder .*photos: Permission denied"):
        list(find_images(photos))


class Clock:
    """Stands in for time.sleep: each look at the folder is preceded by the next of these changes."""

    def __init__(self, *changes: object) -> None:
        self.changes = list(changes)

    def sleep(self, seconds: float) -> None:
        if not self.changes:
            raise StopWatching
        change = self.changes.pop(0)
        if callable(change):
            change()


class StopWatching(Exception):
    pass


def watch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *changes: object, left_out: LeftOut | None = None
) -> list[str]:
    """Names of what a watch yields while the folder changes."""
    monkeypatch.setattr(time, "sleep", Clock(*changes).sleep)
    seen: list[str] = []
    with pytest.raises(StopWatching):
        for path in watch_folder(folder, left_out=left_out):
            seen.append(path.name)
    return seen


def test_new_images_come_once_they_rest(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = photos / "new.png"

    def grow() -> None:
        with new.open("ab") as file:
            file.write(b"2")

    assert watch(photos, monkeypatch, grow, grow, grow) == []
    assert watch(photos, monkeypatch, grow, grow, "rest", "rest", "rest") == ["new.png"]


def test_a_writer_that_paused_and_an_overwritten_file_come_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = photos / "b.png"

    def overwrite() -> None:
        old.write_bytes(b"2")
        os.utime(old, ns=(1, old.stat().st_mtime_ns + 1))

    assert watch(photos, monkeypatch, overwrite, "rest", "rest", overwrite, "rest", "rest") == ["b.png", "b.png"]


def test_an_image_moved_into_place_and_one_that_came_back(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def move() -> None:
        shutil.copy(photos / "b.png", photos / ".partial")
        (photos / ".partial").replace(photos / "moved.png")

    moved = photos / "moved.png"
    assert watch(photos, monkeypatch, move, "rest", moved.unlink, "rest", move, "rest") == ["moved.png"] * 2


def test_what_is_no_image_or_empty_or_was_there_does_not_come(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill() -> None:
        (photos / "empty.png").touch()
        for name in ("a.txt", ".hidden.png", "b.png.part", "deep/new.png"):
            (photos / name).write_bytes(b"1")
        (photos / "folder.png").mkdir()

    assert watch(photos, monkeypatch, fill, "rest", "rest") == []


def test_a_watch_sees_the_images_that_a_folder_has(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill() -> None:
        for name, kind in (("1", "PNG"), ("2.jfif", "JPEG"), ("3.x", "GIF")):
            Image.new("L", (4, 4)).save(photos / name, kind)
        (photos / "4.txt").write_text("x")
        (photos / "5.png").symlink_to("nowhere")
        (photos / "6.png").symlink_to("6.png")
        os.mkfifo(photos / "7.png")
        os.mkfifo(photos / "8")

    reported: list[str] = []
    left_out = LeftOut(reported.append)
    found = watch(photos, monkeypatch, fill, "rest", "rest", left_out=left_out)
    assert found == ["1", "2.jfif", "5.png", "6.png", "7.png"]
    assert [text.split()[2] for text in reported] == [".x", "*.txt", "without"]
    assert str(left_out).startswith("Left out 3 files")


def test_several_come_in_the_order_of_their_names(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill() -> None:
        for name in ("3.png", "1.png", "2.png"):
            (photos / name).write_bytes(b"1")

    assert watch(photos, monkeypatch, fill, "rest") == ["1.png", "2.png", "3.png"]


def test_a_file_that_vanishes_while_we_look_is_passed_over(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(folder: Path) -> Any:
        with real(folder) as entries:
            listed = list(entries)
        (photos / "b.png").unlink(missing_ok=True)
        return contextlib.nullcontext(iter(listed))

    monkeypatch.setattr(os, "scandir", scandir)
    assert watch(photos, monkeypatch, lambda: (photos / "new.png").write_bytes(b"1"), "rest") == ["new.png"]


def test_a_watched_folder_must_be_there_and_stay(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # At once, and not when the first image is asked for.
    with pytest.raises(DataError, match="cannot list folder .*gone: No such file"):
        watch_folder(photos / "gone")
    with pytest.raises(DataError, match="cannot list folder .*photos: No such file"):
        monkeypatch.setattr(time, "sleep", Clock(lambda: shutil.rmtree(photos)).sleep)
        next(watch_folder(photos))
