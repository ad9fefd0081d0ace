from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from folder_trees import touch

from edgecls.errors import ConfigError, DataError
from edgecls.images.folders import list_images
from edgecls.images.leftovers import LeftOut
from edgecls.images.parts import describe_parts, find_parts


def make(root: Path, *folders: str) -> Path:
    return touch(root, *(f"{folder}/{animal}/1.png" for folder in folders for animal in ("cat", "dog")))


def test_parts_that_are_there_are_found(tmp_path: Path) -> None:
    make(tmp_path, "train", "test")
    assert find_parts(tmp_path) == {"train": tmp_path / "train", "test": tmp_path / "test"}
    make(tmp_path, "val")
    assert list(parts := find_parts(tmp_path)) == ["train", "val", "test"] and describe_parts(tmp_path, parts) == ""


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ("train valid test", {"train": "train", "val": "valid", "test": "test"}),
        ("training validation testing", {"train": "training", "val": "validation", "test": "testing"}),
        ("Training_set Test_set", {"train": "Training_set", "test": "Test_set"}),
        ("seg_train seg_test", {"train": "seg_train", "test": "seg_test"}),
        ("train holdout", {"train": "train", "test": "holdout"}),
        ("training val", {"train": "training", "val": "val"}),
        # As archives of data sets have them.
        (
            "training_set/training_set test_set/test_set",
            {"train": "training_set/training_set", "test": "test_set/test_set"},
        ),
        ("train/images test/images", {"train": "train/images", "test": "test/images"}),
        ("train/train", {"train": "train/train"}),
    ],
)
def test_what_people_call_the_parts_is_read_and_reported(
    tmp_path: Path, folders: str, expected: dict[str, str]
) -> None:
    parts = find_parts(make(tmp_path, *folders.split()))
    assert parts == {part: tmp_path / name for part, name in expected.items()}
    report = describe_parts(tmp_path, parts)
    assert all(f"{name} as {part}" in report for part, name in expected.items() if name != part)


@pytest.mark.parametrize(
    "folders", ["trainA testA trainB testB", "train1 train2 test", "valid val train", "fold1 fold2"]
)
def test_ambiguous_parts_are_an_error_whose_option_works(tmp_path: Path, folders: str) -> None:
    make(tmp_path, *folders.split())
    with pytest.raises(DataError) as caught:
        for folder in find_parts(tmp_path).values():
            list_images(tmp_path, folder)
    option = re.search(r"--splits (\S*train=\S+?)[.;]? ", f"{caught.value} ")
    assert option, caught.value
    parts = find_parts(tmp_path, parts=shlex.split(option[1].rstrip("."))[0])
    assert len(parts) >= 2 and all(list_images(tmp_path, folder) for folder in parts.values())


def test_folders_named_like_splits_may_be_classes(tmp_path: Path) -> None:
    make(tmp_path, "val", "test")
    with pytest.raises(DataError, match="If they are classes, pass --splits none"):
        list_images(tmp_path, tmp_path)
    assert find_parts(tmp_path, parts="none") == {"train": tmp_path}
    assert list(list_images(tmp_path, tmp_path, check=False)) == ["test", "val"]


def test_unused_folder_of_images_beside_train_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "train", "test", "other")
    touch(tmp_path, "notes/todo.txt")
    with pytest.raises(DataError, match=r"not be used: other\. .*--splits train=train,test=test; or, if all .* none"):
        find_parts(tmp_path)
    left_out = LeftOut()
    assert list(find_parts(tmp_path, left_out, "train=train,test=test")) == ["train", "test"]
    assert "2 in other (not named by --splits)" in str(left_out)


def test_folder_without_images_beside_train_is_left_alone(tmp_path: Path) -> None:
    assert list(find_parts(touch(tmp_path, "train/cat/1.png", "notes/todo.txt", ".cache/1.png"))) == ["train"]


@pytest.mark.parametrize("text", ["train", "learn=train", "test=test", "train=a,train=b,", "train=a,b"])
def test_splits_that_are_not_understood_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--splits must be like train=FOLDER"):
        find_parts(make(tmp_path, "train"), parts=text)


def test_splits_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder gone; its folders are train"):
        find_parts(make(tmp_path, "train"), parts="train=train,test=gone")
