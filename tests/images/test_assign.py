from __future__ import annotations

from pathlib import Path

import pytest
from folder_trees import touch
from tiny import make_data

from edgecls.errors import DataError
from edgecls.images.assign import Assignment, assign
from edgecls.images.dataset import load_dataset
from edgecls.images.layout import Layout
from edgecls.images.leftovers import LeftOut

HELD_OUT = {"val": 0.15, "test": 0.15}
COLLECTION = ("collected", "labeled", "no-class", "records")


def photos(root: Path, *classes: str, count: int = 20) -> Path:
    return touch(root / "photos", *(f"{name}/{number}.png" for name in classes for number in range(count)))


def collection(root: Path, labels: dict[str, int]) -> Path:
    """A folder as --collect makes it: the images of each class in a minute of their own."""
    board = root / "board"
    for name in COLLECTION:
        (board / name).mkdir(parents=True, exist_ok=True)
    touch(board, "collected/20261126T150000000-ffffff.png", "records/20261126T150000000-ffffff.json")
    for minute, (name, count) in enumerate(labels.items()):
        (board / "labeled" / name).mkdir()
        touch(
            board / "labeled" / name, *(f"20261126T15{minute:02}{second:02}000-abcdef.png" for second in range(count))
        )
    return board


def of(*folders: Path, layout: Layout | None = None, left_out: LeftOut | None = None) -> Assignment:
    return assign(folders, layout or Layout(), HELD_OUT, 0, left_out or LeftOut())


def test_classes_whose_names_are_nearly_the_same_are_doubtful(tmp_path: Path) -> None:
    (doubt,) = of(photos(tmp_path, "Cat", "cat", "dog")).doubts
    assert "'Cat', 'cat'" in doubt and "dog" not in doubt


def test_classes_of_several_labels_are_doubtful(tmp_path: Path) -> None:
    (doubt,) = of(photos(tmp_path, "cat", "dog", "cat+dog")).doubts
    assert "together: 'cat+dog'" in doubt


def paths(found: Assignment, part: str, folder: str) -> list[str]:
    return [path for path, _ in found.samples[part] if path.startswith(f"{folder}/")]


def test_the_split_of_the_first_folder_stays_and_new_images_are_split_by_time(tmp_path: Path) -> None:
    first, board, left_out = photos(tmp_path, "b", "c"), collection(tmp_path, {"a": 40, "c": 10, "b": 0}), LeftOut()
    alone, found = of(first), of(first, board, left_out=left_out)
    assert (found.root, found.classes) == (tmp_path, ("a", "b", "c"))
    for part, samples in alone.samples.items():
        assert paths(found, part, "photos") == [f"photos/{path}" for path, _ in samples]
        assert all(found.classes[label] == path.split("/")[-2] for path, label in found.samples[part])
    new = [paths(found, part, "board") for part in ("train", "val", "test")]
    assert [len([path for path in each if "/a/" in path]) for each in new] == [28, 6, 6]
    assert new == [sorted(each) for each in new] and max(new[0][:28]) < min(new[1]) and max(new[1][:6]) < min(new[2])
    assert found.notes == (
        f"{first} is split as it is alone: 28 training images, 6 validation images, 6 test images.",
        f"{board} is split by the time in their names, the oldest first: 34 training images, 8 validation images, "
        "8 test images.",
        f"Only {first} has images of b.",
        f"Only {board} has images of a.",
    )
    assert str(left_out) == "Left out 1 file: 1 in board/collected (without a label yet)."


def test_folders_that_say_the_split_keep_it(tmp_path: Path) -> None:
    split = touch(
        tmp_path / "split", *(f"{part}/{name}/{i}.png" for part in ("train", "test") for name in "ab" for i in "123")
    )
    first = photos(tmp_path, "a", "b")
    one, other = of(split, first), of(first, split)
    assert len(paths(one, "test", "split/test")) == 6 and paths(one, "train", "split/train")
    assert paths(one, "test", "photos") and paths(one, "val", "photos")
    assert len(paths(other, "test", "split/test")) == 6 == len(paths(other, "train", "split/train"))
    assert any("split keeps the split of its folders" in note for note in other.notes)
    # Without a test split of the first folder there is none of the others.
    touch(tmp_path / "only", *(f"train/{name}/{i}.png" for name in "ab" for i in "12345"))
    assert set(of(tmp_path / "only", first).samples) == {"train", "val"}


def test_a_collection_is_read_where_its_labels_are(tmp_path: Path) -> None:
    board = collection(tmp_path, {"a": 4, "b": 4})
    assert of(board).root == board / "labeled" and of(board).samples == of(board / "labeled").samples
    with pytest.raises(DataError, match="class 'b' has 0 images, at least 3 needed\n.*1 in board/collected"):
        of(collection(tmp_path / "more", {"a": 4, "b": 0}))


def test_layout_is_that_of_the_first_folder_and_exclude_of_all(tmp_path: Path) -> None:
    first = touch(tmp_path / "flat", *(f"{name}.{i}.png" for name in "ab" for i in range(8)))
    board, table = collection(tmp_path, {"a": 4, "b": 4}), tmp_path / "moves.csv"
    table.write_text("image\nflat/a.1.png\nboard/labeled/a/20261126T150002000-abcdef.png\n")
    found = of(first, board, layout=Layout(class_from=r"^(\w)\.", exclude=str(table)))
    listed = {path for samples in found.samples.values() for path, _ in samples}
    assert len(listed) == 16 + 8 - 2 and not listed & set(table.read_text().split())


def test_groups_are_those_of_the_first_folder(tmp_path: Path) -> None:
    first = photos(tmp_path, "a", "b")
    found = of(first, collection(tmp_path, {"a": 4}), layout=Layout(group=r"(\d)\.png"))
    assert set(found.group_of) == {f"photos/{name}/{i}.png" for name in "ab" for i in range(20)}
    assert found.group_of["photos/a/13.png"] == found.group_of["photos/b/3.png"] == "3"
    said = f"Groups are of {first} alone: images of one group that also lie in another folder may be in two splits."
    assert any(note.startswith(said) for note in found.notes)
    for several in (of(first, tmp_path / "board"), of(first, layout=Layout(group=r"(\d)\.png"))):
        assert not any("Groups are of" in note for note in several.notes)


def test_folders_that_overlap_are_refused(tmp_path: Path) -> None:
    first, board = photos(tmp_path, "a", "b"), collection(tmp_path, {"a": 4})
    for others in ((first, first), (tmp_path, first)):
        with pytest.raises(DataError, match="so its images would count twice"):
            of(*others)
    with pytest.raises(DataError, match="folders of one collection"):
        of(board, touch(board / "no-class", "a/1.png"))


def test_pixels_come_from_all_folders(tmp_path: Path) -> None:
    one, other = make_data(tmp_path / "one", 8), make_data(tmp_path / "other", 8)
    data = load_dataset(one, 16, val_fraction=0.2, test_fraction=0.2, seed=0, more=[other])
    assert data.root == tmp_path and {path.split("/")[0] for path in data.train.paths} == {"one", "other"}
    assert sum(len(split.labels) for split in (data.train, data.val, data.test) if split) == 48
