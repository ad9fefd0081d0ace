from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecls.errors import DataError
from edgecls.images import dataset as dataset_module
from edgecls.images.dataset import Dataset, load_dataset, load_labeled, load_paths

SIZE = 8


def save(path: Path) -> None:
    """Write a small noise image that no other path has."""
    pixels = np.frombuffer(hashlib.sha256(str(path).encode()).digest() * 2, np.uint8).reshape(8, 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


def fill(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{number}.png")
    return root


def load(root: Path, **changes: Any) -> Dataset:
    return load_dataset(root, SIZE, **{"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, **changes})


def parts_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    return {part: split.paths for part, split in splits.items() if split is not None}


def test_flat_folder_is_split_three_ways(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, dog=10, cat=20))
    assert dataset.classes == ("cat", "dog")
    assert dataset.root == tmp_path.resolve()
    assert {part: len(paths) for part, paths in parts_of(dataset).items()} == {"train": 18, "val": 6, "test": 6}
    assert (dataset.bad, dataset.duplicates) == ((), ())
    assert dataset.train.images.shape == (18, SIZE, SIZE, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64


def test_each_row_is_the_image_and_the_class_of_its_path(tmp_path: Path) -> None:
    dataset = load(fill(tmp_path, dog=10, cat=20))
    assert dataset.test is not None
    for split in (dataset.train, dataset.val, dataset.test):
        for path, image, label in zip(split.paths, split.images, split.labels, strict=True):
            with Image.open(tmp_path / path) as expected:
                np.testing.assert_array_equal(image[..., 0], np.asarray(expected))
            assert dataset.classes[label] == path.split("/")[0]


def test_pre_split_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 1)):
        fill(tmp_path / part, cat=count, dog=count)
    parts = parts_of(load(tmp_path))
    assert {part: len(paths) for part, paths in parts.items()} == {"train": 8, "val": 4, "test": 2}
    assert all(path.startswith(f"{part}/") for part, paths in parts.items() for path in paths)


def test_missing_val_is_taken_out_of_train_and_missing_test_stays_missing(tmp_path: Path) -> None:
    fill(tmp_path / "train", cat=10, dog=10)
    dataset = load(tmp_path)
    assert dataset.test is None
    assert (len(dataset.train.paths), len(dataset.val.paths)) == (16, 4)
    fill(tmp_path / "test", cat=1, dog=2)
    with_test = load(tmp_path)
    assert with_test.val.paths == dataset.val.paths
    assert with_test.test is not None and len(with_test.test.paths) == 3


def test_awkward_file_names_are_loaded(tmp_path: Path) -> None:
    names = ["a b.png", "line\nbreak.PNG", "日本", unicodedata.normalize("NFD", "é.Png"), "deep/er/x.jpg"]
    fill(tmp_path, dog=3)
    for name in names:
        save(tmp_path / "cat" / name)
    stored = {path for paths in parts_of(load(tmp_path)).values() for path in paths if path.startswith("cat/")}
    assert stored == {f"cat/{name}" for name in names}


def test_too_few_images_name_class_count_and_need(tmp_path: Path) -> None:
    fill(tmp_path, cat=2, dog=3, cow=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        f"  class {n!r} has {c}, at least 3 needed"
        for n, c in (("cat", "2 images"), ("cow", "1 image"), ("empty", "0 images"))
    ]


def test_train_needs_an_image_more_only_if_val_is_taken_from_it(tmp_path: Path) -> None:
    fill(tmp_path / "train", cat=1, dog=2)
    with pytest.raises(DataError, match="class 'cat' has 1 image, at least 2 needed"):
        load(tmp_path)
    fill(tmp_path / "val", cat=1, dog=1)
    assert len(load(tmp_path).train.paths) == 3


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_must_have_the_classes_of_train(tmp_path: Path, part: str) -> None:
    fill(tmp_path / "train", cat=3, dog=3)
    fill(tmp_path / part, cat=1, cow=1)
    with pytest.raises(DataError, match=rf"missing in {part} dog, missing in train cow"):
        load(tmp_path)


@pytest.mark.parametrize("empty", [True, False])
def test_val_and_test_may_lack_a_class(tmp_path: Path, empty: bool) -> None:
    fill(tmp_path / "train", cat=3, dog=3)
    fill(tmp_path / "val", cat=2)
    fill(tmp_path / "test", dog=2)
    if empty:
        (tmp_path / "val/dog").mkdir()
    dataset = load(tmp_path)
    assert dataset.val.labels.tolist() == [0, 0]
    assert dataset.test is not None and dataset.test.labels.tolist() == [1, 1]


def test_one_class_and_missing_root_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one class folder, 'cat'"):
        load(fill(tmp_path, cat=5))
    with pytest.raises(DataError, match="there is no such folder"):
        load(tmp_path / "gone")


def test_every_unreadable_file_is_named_at_once(tmp_path: Path) -> None:
    fill(tmp_path, cat=5, dog=5)
    (tmp_path / "cat/cut.png").write_bytes((tmp_path / "cat/0.png").read_bytes()[:50])
    (tmp_path / "dog/film.gif").write_bytes(b"GIF89a")
    (tmp_path / "dog/gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "dog/pipe.png")
    with pytest.raises(DataError, match=r"4 images in .* cannot be read; repair or remove") as caught:
        load(tmp_path)
    listed = str(caught.value).splitlines()[1:]
    assert len(listed) == 4
    for name in ("cat/cut.png", "dog/film.gif", "dog/gone.png", "dog/pipe.png"):
        assert sum(name in line for line in listed) == 1


def test_long_lists_are_cut(tmp_path: Path) -> None:
    fill(tmp_path, cat=3, dog=3)
    for number in range(23):
        (tmp_path / f"cat/bad{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="23 images") as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 3 more"


def test_skipped_images_are_returned_and_move_no_other_image(tmp_path: Path) -> None:
    fill(tmp_path, cat=10, dog=10)
    before = parts_of(load(tmp_path))
    victims = {before["train"][0], before["val"][-1]}
    for victim in victims:
        (tmp_path / victim).write_bytes(b"no image")
    dataset = load(tmp_path, skip_bad=True)
    assert {path for path, _ in dataset.bad} == victims
    assert all(path in reason for path, reason in dataset.bad)
    assert parts_of(dataset) == {part: tuple(p for p in paths if p not in victims) for part, paths in before.items()}
    assert dataset.train.images.shape[0] == dataset.train.labels.shape[0] == len(dataset.train.paths)
    with Image.open(tmp_path / dataset.train.paths[0]) as image:
        np.testing.assert_array_equal(dataset.train.images[0, ..., 0], np.asarray(image))


def test_class_without_readable_images_is_refused_after_skipping(tmp_path: Path) -> None:
    fill(tmp_path, cat=5, dog=5)
    for victim in (path for path in load(tmp_path).train.paths if path.startswith("cat/")):
        (tmp_path / victim).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image is left after 3 .*\n  class 'cat' in train$"):
        load(tmp_path, skip_bad=True)


def test_name_that_is_not_utf8_is_bad(tmp_path: Path) -> None:
    fill(tmp_path, cat=9, dog=9)
    (tmp_path / "cat/0.png").rename(tmp_path / os.fsdecode(b"cat/\xff.png"))
    dataset = load(tmp_path, skip_bad=True)
    assert dataset.bad == (("cat/\\udcff.png", "the name of cat/\\udcff.png is not UTF-8; rename it"),)
    with pytest.raises(DataError, match="not UTF-8; rename it") as caught:
        load(tmp_path)
    str(caught.value).encode()


def test_identical_images_are_reported_only_if_they_lie_in_two_parts(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        fill(tmp_path / part, cat=3, dog=3)
    with Image.open(tmp_path / "train/cat/0.png") as image:
        # Other bytes, the same pixels.
        image.save(tmp_path / "val/dog/copy.bmp")
        image.save(tmp_path / "test/cat/copy.png", compress_level=0)
    with Image.open(tmp_path / "train/dog/0.png") as image:
        image.save(tmp_path / "train/cat/copy.png")
    dataset = load(tmp_path)
    assert dataset.duplicates == (("train/cat/0.png", "val/dog/copy.bmp", "test/cat/copy.png"),)
    # One of each label comes first.
    assert dataset.contradictions == (
        ("train/cat/0.png", "val/dog/copy.bmp", "test/cat/copy.png"),
        ("train/cat/copy.png", "train/dog/0.png"),
    )
    assert dataset.repeats == ()
    with Image.open(tmp_path / "train/cat/1.png") as image:
        image.save(tmp_path / "train/cat/again.png", compress_level=0)
    assert load(tmp_path).repeats == (("train/cat/1.png", "train/cat/again.png"),)


def test_what_is_left_out_and_doubtful_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, **{"part1/a": 3, "part2/b": 3})
    (tmp_path / "part1/Thumbs.db").touch()
    dataset = load(tmp_path)
    assert "1 Thumbs.db (thumbnails of Windows)" in dataset.left_out and "part1, part2" in dataset.doubts[0]


def test_progress_counts_every_image_in_the_calling_thread(tmp_path: Path) -> None:
    calls = []
    load(fill(tmp_path, cat=4, dog=6), progress=lambda done, total: calls.append((done, total, threading.get_ident())))
    assert calls == [(done, 10, threading.get_ident()) for done in range(1, 11)]


def test_interrupt_does_not_wait_for_the_remaining_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def count_and_load(path: Path, height: int, width: int, *_: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
        decoded.append(path)
        threading.Event().wait(0.01)
        return np.zeros((height, width, 1), np.uint8)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_module, "load_gray", count_and_load)
    fill(tmp_path, cat=100, dog=100)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, progress=interrupt)
    assert len(decoded) < 150


@pytest.mark.parametrize("fault", [MemoryError("no memory"), OSError(28, "No space left on device")])
def test_more_images_than_there_is_room_for_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise fault

    monkeypatch.setattr(dataset_module, "new_array", refuse)
    with pytest.raises(DataError, match=r"6 images of 8 x 8 need 0\.0 GB of disk in .*; free some, set XDG_CACHE_HOME"):
        load(fill(tmp_path, cat=5, dog=5))


def test_labeled_images_are_matched_by_name_not_by_order(tmp_path: Path) -> None:
    fill(tmp_path, cat=2, dog=1, **{"é": 1})
    split = load_labeled(tmp_path, ["dog", unicodedata.normalize("NFD", "é"), "cat"], SIZE, 5)
    assert split.paths == ("dog/0.png", "é/0.png", "cat/0.png", "cat/1.png")
    assert split.labels.tolist() == [0, 1, 2, 2]
    assert split.images.shape == (4, SIZE, 5, 1)


def test_labeled_images_come_from_test_then_val_then_the_folder(tmp_path: Path) -> None:
    fill(tmp_path / "train", cat=1, dog=1)
    fill(tmp_path / "val", cat=1, dog=1)
    assert load_labeled(tmp_path, ["cat", "dog"], SIZE, SIZE).paths == ("val/cat/0.png", "val/dog/0.png")
    fill(tmp_path / "test", cat=1, dog=1)
    assert load_labeled(tmp_path, ["cat", "dog"], SIZE, SIZE).paths == ("test/cat/0.png", "test/dog/0.png")
    assert load_labeled(tmp_path / "train", ["cat", "dog"], SIZE, SIZE).paths == ("cat/0.png", "dog/0.png")


def test_labeled_images_beside_those_of_test_are_an_error(tmp_path: Path) -> None:
    fill(tmp_path, cat=1, dog=1)
    fill(tmp_path / "test", cat=1, dog=1)
    with pytest.raises(
        DataError, match="holds images of cat, dog beside test, and they would not be scored.*pass .*test"
    ):
        load_labeled(tmp_path, ["cat", "dog"], SIZE, SIZE)
    with pytest.raises(DataError, match="not the classes of the model: unknown to the model dog; the data have"):
        load_labeled(tmp_path / "test", ["cat"], SIZE, SIZE)


def test_labeled_class_may_be_called_test(tmp_path: Path) -> None:
    fill(tmp_path, test=1, car=1)
    assert load_labeled(tmp_path, ["test", "car"], SIZE, SIZE).labels.tolist() == [0, 1]


def test_labeled_images_are_not_those_of_train_alone(tmp_path: Path) -> None:
    fill(tmp_path / "train", cat=1, dog=1)
    with pytest.raises(DataError, match="has no test and no val folder to score on; add one, or pass .*train"):
        load_labeled(tmp_path, ["cat", "dog"], SIZE, SIZE)


def test_labeled_classes_may_be_missing_but_not_all(tmp_path: Path) -> None:
    fill(tmp_path / "test", cat=2)
    (tmp_path / "test/dog").mkdir()
    (tmp_path / "test/cow").mkdir()
    assert load_labeled(tmp_path, ["cat", "dog", "hen"], SIZE, SIZE).labels.tolist() == [0, 0]
    (tmp_path / "empty/dog").mkdir(parents=True)
    with pytest.raises(DataError, match="without images cat, dog"):
        load_labeled(tmp_path / "empty", ["cat", "dog"], SIZE, SIZE)


def test_labeled_folders_must_be_the_classes_of_the_model(tmp_path: Path) -> None:
    fill(tmp_path, cat=1, cow=1)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError) as caught:
        load_labeled(tmp_path, ["cat", "dog", "hen"], SIZE, SIZE)
    for wanted in (
        "without images dog, hen",
        "unknown to the model cow",
        "the data have cat, cow, dog",
        "the model's classes cat, dog, hen",
    ):
        assert wanted in str(caught.value)


def test_labeled_unreadable_images_are_refused(tmp_path: Path) -> None:
    (fill(tmp_path, cat=2, dog=2) / "cat/0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 image in .* cannot be read; repair or remove these files:\n.*cat/0\.png"):
        load_labeled(tmp_path, ["cat", "dog"], SIZE, SIZE)


def test_stored_paths_give_the_stored_split(tmp_path: Path) -> None:
    val = load(fill(tmp_path, cat=9, dog=9)).val
    seen: list[tuple[int, int]] = []
    again = load_paths(
        tmp_path, val.paths[::-1], val.labels.tolist()[::-1], SIZE, SIZE, progress=lambda *call: seen.append(call)
    )
    assert again.paths == val.paths[::-1]
    np.testing.assert_array_equal(again.images, val.images[::-1])
    np.testing.assert_array_equal(again.labels, val.labels[::-1])
    assert seen[-1] == (len(val.paths), len(val.paths))


def test_vanished_and_damaged_stored_paths_are_all_named(tmp_path: Path) -> None:
    fill(tmp_path, cat=3)
    (tmp_path / "cat/2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 3 images .* no longer in .*put them back(.|\n)*gone/1(.|\n)*gone/2"):
        load_paths(tmp_path, ["cat/0.png", "gone/1.png", "gone/2.png"], [0, 0, 0], SIZE, SIZE)
    with pytest.raises(DataError, match="1 of 2 images .* no longer in"):
        load_paths(tmp_path, ["cat/0.png", "long" * 1000], [0, 0], SIZE, SIZE)
    with pytest.raises(DataError, match=r"1 image(.|\n)*cat/2\.png"):
        load_paths(tmp_path, ["cat/0.png", "cat/2.png"], [0, 0], SIZE, SIZE)
    with pytest.raises(DataError, match="2 paths and 1 labels"):
        load_paths(tmp_path, ["cat/0.png", "cat/1.png"], [0], SIZE, SIZE)
