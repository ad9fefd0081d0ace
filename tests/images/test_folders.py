from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from folder_trees import touch

from edgecls.errors import DataError
from edgecls.images.folders import check_classes, check_root, list_doubts, list_images
from edgecls.images.leftovers import LeftOut
from edgecls.images.parts import find_parts


def test_flat_folder_is_its_own_train(tmp_path: Path) -> None:
    assert find_parts(touch(tmp_path, "cat/1.png", "dog/1.png")) == {"train": tmp_path}


def test_a_vehicle_may_be_called_train(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/1.png", "car/1.png", "plane/1.png")
    assert find_parts(root) == {"train": root}
    assert list(list_images(root, root)) == ["car", "plane", "train"]


@pytest.mark.parametrize("names", [["val"], ["test"], ["train1", "train2"], ["fold1", "fold2"], ["b_1", "b_2"]])
def test_splits_are_no_classes(tmp_path: Path, names: list[str]) -> None:
    names = [name.replace("b_", "batch_") for name in names]
    touch(tmp_path, *(f"{name}/{animal}/1.png" for name in names for animal in ("cat", "dog")))
    assert find_parts(tmp_path) == {"train": tmp_path}
    with pytest.raises(DataError, match=r"no classes\. Say which is which, as in --splits") as caught:
        list_images(tmp_path, tmp_path)
    assert all(name in str(caught.value) for name in names)


def test_labels_in_a_table_are_refused_naming_it(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{number}.png" for part in ("train", "test") for number in range(5)), "train.csv")
    with pytest.raises(
        DataError, match=rf"test, train hold no class folders\. .* in train\.csv, pass --labels {tmp_path}/train\.csv"
    ):
        list_images(tmp_path, tmp_path)


@pytest.mark.parametrize("folder", ["", "train/"])
def test_the_class_in_file_names_is_refused_naming_it(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, *(f"{folder}{name}.{number}.png" for name in ("cat", "dog") for number in range(5)), "test1/0.png")
    with pytest.raises(
        DataError,
        match=rf"begin with the class \(cat, dog\), as cat\.0\.png does\. If so, pass {tmp_path / folder} and --c",
    ):
        list_images(tmp_path, tmp_path)


def test_one_level_too_high_is_doubtful(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}/{name}/1.png" for kind in ("color", "gray") for name in ("cat", "dog")))
    (doubt,) = list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path))
    assert "all hold the same folders: cat, dog. The classes are color, gray" in doubt and f"{tmp_path}/color" in doubt
    touch(tmp_path, "color/2.png")
    assert list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path)) == ()


def test_a_class_folder_that_holds_other_classes_is_doubtful(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/1.png", "old/cat/2.png", "cat/cat/3.png")
    (doubt,) = list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path))
    assert f"{tmp_path}/old holds folders that are called like other classes: cat. " in doubt


def test_a_class_folder_in_place_of_the_folder_above_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "photos/cat/1.png", "photos/dog/1.png")
    with pytest.raises(DataError, match=rf"If cat is a class itself, pass the folder above it, {tmp_path}/photos$"):
        list_images(tmp_path / "photos/cat", tmp_path / "photos/cat")
    touch(tmp_path, "photos/2.png")
    with pytest.raises(DataError, match="or elsewhere$"):
        list_images(tmp_path / "photos", tmp_path / "photos")


def test_masks_beside_images_are_doubtful(tmp_path: Path) -> None:
    touch(tmp_path, "cyst/a (1).png", "cyst/a (1)_mask.png", "cyst/a (1)_mask_1.png", "free/b.jpg", "free/b-GT.png")
    touch(tmp_path, "free/c.jpg", "free/c.PNG", "cyst/c.jpg", "cyst/b.png")
    (doubt,) = list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path))
    assert doubt.startswith("4 images are called like masks or copies of others, such as cyst/a (1)_mask.png")


def test_names_that_end_like_masks_are_not_doubtful_alone(tmp_path: Path) -> None:
    touch(tmp_path, "with_mask/face_mask.png", "without/face.png", "without/label 1.png")
    assert list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path)) == ()


def test_doubts_look_below_the_part_they_are_of(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{kind}/images/{n}.png" for kind in ("cat", "dog") for n in range(2)))
    # One folder in each is how some data sets keep their images.
    assert list_doubts(tmp_path, tmp_path / "train", list_images(tmp_path, tmp_path / "train")) == ()
    touch(tmp_path, *(f"train/{kind}/boxes/1.png" for kind in ("cat", "dog")))
    (doubt,) = list_doubts(tmp_path, tmp_path / "train", list_images(tmp_path, tmp_path / "train"))
    assert "boxes, images" in doubt


def test_numbered_parts_are_classes_but_doubtful(tmp_path: Path) -> None:
    touch(tmp_path, "part1/1.png", "part2/1.png")
    (doubt,) = list_doubts(tmp_path, tmp_path, list_images(tmp_path, tmp_path))
    assert "part1, part2" in doubt


@pytest.mark.parametrize("stray", ["1.JPG", "train/1.png"])
def test_images_outside_class_folders_of_a_split_dataset_are_refused(tmp_path: Path, stray: str) -> None:
    touch(tmp_path, "train/cat/1.png", stray)
    with pytest.raises(DataError, match=r"1 image lies outside class folders.*move them"):
        for folder in find_parts(tmp_path).values():
            list_images(tmp_path, folder)


def test_images_beside_class_folders_are_refused_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "a.webp", "b.tiff", "README.md", "script.py")
    with pytest.raises(DataError, match=r"2 images lie outside class folders.*a\.webp"):
        list_images(tmp_path, tmp_path)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    touch(
        tmp_path, "cat/1.png", "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", "cat/1.png:Zone.Identifier", "cat/labels.csv"
    )
    touch(tmp_path, "$RECYCLE.BIN/S-1-5-21/$R1.png", "cat/.a", ".git/x", "README.md", "photo.heic")
    left_out = LeftOut()
    assert find_parts(tmp_path, left_out) == {"train": tmp_path}
    assert list_images(tmp_path, tmp_path, left_out) == {"cat": ["cat/1.png"]}
    assert str(left_out) == (
        "Left out 8 files: 2 hidden files, 1 in $RECYCLE.BIN (deleted files of Windows), "
        "1 *.md (notes, tables, labels and settings), 1 .heic (not an image that can be read), "
        "1 in @eaDir (thumbnails and attributes of a Synology NAS), "
        "1 *Zone.Identifier (marks of Windows on downloads), 1 *.csv (notes, tables, labels and settings)."
    )


def test_what_lies_beside_the_parts_is_counted_once(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.png", "$RECYCLE.BIN/1.png", "notes/a.txt", "b.txt")
    left_out = LeftOut()
    parts = find_parts(tmp_path, left_out)
    list_images(tmp_path, parts["train"], left_out)
    assert str(left_out).startswith("Left out 3 files: 2 *.txt")


def test_a_link_that_leads_back_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    (tmp_path / "cat/self").symlink_to(tmp_path / "cat")
    left_out = LeftOut()
    list_images(tmp_path, tmp_path, left_out)
    assert str(left_out) == "Left out 1 linked folder that had been read already."


def test_hidden_and_system_files_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/.2.png", "cat/.git/3.png", "cat/__MACOSX/4.png", "__MACOSX/cat/5.png", ".x/6.png")
    touch(tmp_path, "cat/Thumbs.db", "cat/desktop.ini", "cat/notes.TXT", "cat/labels.csv")
    assert list_images(tmp_path, tmp_path) == {"cat": ["cat/1.png"]}


def test_any_other_file_counts_as_an_image(tmp_path: Path) -> None:
    names = ["1.PNG", "2", "3.heic", "4.gif", "a b.jpg", "line\nbreak.png", "日本.png", "x.txt.png"]
    touch(tmp_path, *(f"cat/{name}" for name in names))
    assert list_images(tmp_path, tmp_path) == {"cat": sorted(f"cat/{name}" for name in names)}


def test_nested_folders_belong_to_the_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a/b/1.png", "train/cat/2.png", "train/dog/1.png")
    expected = {"cat": ["train/cat/2.png", "train/cat/a/b/1.png"], "dog": ["train/dog/1.png"]}
    assert list_images(tmp_path, tmp_path / "train") == expected


def test_classes_are_in_code_point_order_of_nfc(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    touch(tmp_path, "b/1.png", "Z/1.png", "a/1.png", "10/1.png", "9/1.png", f"{decomposed}/1.png", "f/1.png")
    groups = list_images(tmp_path, tmp_path)
    # Decomposed, é would come before f.
    assert list(groups) == ["10", "9", "Z", "a", "b", "f", "é"]
    assert groups["é"] == [f"{decomposed}/1.png"]


def test_two_spellings_of_one_class_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "é/1.png", f"{unicodedata.normalize('NFD', 'é')}/1.png")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system normalizes names itself")
    with pytest.raises(DataError, match="two class folders .* 'é' in Unicode's NFC; rename one"):
        list_images(tmp_path, tmp_path)


@pytest.mark.parametrize("name", [b"a\nb", b"a\xff", "a\u2028b".encode()])
def test_class_that_no_label_file_can_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).mkdir()
    with pytest.raises(DataError, match=r"control or non-UTF-8 characters; rename") as caught:
        list_images(tmp_path, tmp_path)
    str(caught.value).encode()


def test_class_names_with_spaces_and_any_script_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "big cat/1.png", "猫\u3000犬/1.png", "👩‍🔬/1.png")
    assert list(list_images(tmp_path, tmp_path)) == ["big cat", "猫\u3000犬", "👩‍🔬"]


def test_link_loops_end_and_bring_in_no_other_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/deep/2.png", "dog/1.png")
    (tmp_path / "cat/self").symlink_to(tmp_path / "cat")
    (tmp_path / "cat/deep/up").symlink_to("..")
    (tmp_path / "cat/root").symlink_to(tmp_path)
    (tmp_path / "dog/circle").symlink_to(tmp_path / "dog/circle")
    groups = list_images(tmp_path, tmp_path)
    # The circular link is no folder; it is kept as a file, to be reported as unreadable.
    assert groups == {"cat": ["cat/1.png", "cat/deep/2.png"], "dog": ["dog/1.png", "dog/circle"]}


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "1.png", "more/2.png")
    root = touch(tmp_path / "root", "dog/1.png")
    (root / "cat").symlink_to(elsewhere)
    (root / "dog/link.png").symlink_to(elsewhere / "1.png")
    (elsewhere / "loop").symlink_to(root)
    assert list_images(root, root) == {"cat": ["cat/1.png", "cat/more/2.png"], "dog": ["dog/1.png", "dog/link.png"]}


def test_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folders; make one folder"):
        list_images(tmp_path, tmp_path)


def test_folder_that_may_not_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/inner/1.png")
    scandir = os.scandir

    # Not chmod: root may list every folder.
    def refuse_inner(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_inner)
    with pytest.raises(DataError, match=r"cannot list folder .*inner: Permission denied; check its permissions"):
        list_images(tmp_path, tmp_path)


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: there is no such folder; pass"):
        check_root(tmp_path / "gone")
    with pytest.raises(DataError, match="file: it is an empty file; pass"):
        check_root(touch(tmp_path, "file") / "file")


def test_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "root/cat/1.png")
    monkeypatch.chdir(tmp_path / "root")
    root = check_root(Path())
    assert root == (tmp_path / "root").resolve()
    assert list_images(root, root) == {"cat": ["cat/1.png"]}


def test_one_class_is_too_few() -> None:
    with pytest.raises(DataError, match=r"one class folder, 'cat'.*pass it instead"):
        check_classes(Path("root"), {"train": {"cat": ["cat/1.png"]}})


def test_parts_with_other_classes_are_refused_naming_both_sides() -> None:
    found = {"train": {"cat": ["1"], "dog": ["1"]}, "val": {"cat": ["1"], "cow": ["1"]}}
    with pytest.raises(DataError, match=r"val and train .* missing in val dog, missing in train cow"):
        check_classes(Path("root"), found)


def test_a_part_may_lack_a_class_but_not_all() -> None:
    train = {"cat": ["1"], "dog": ["1"]}
    check_classes(Path("root"), {"train": train, "val": {"cat": ["1"]}, "test": {"cat": [], "dog": ["1"], "cow": []}})
    with pytest.raises(DataError, match="test holds no image; add some, or remove"):
        check_classes(Path("root"), {"train": train, "test": {"cat": [], "dog": []}})


def test_one_class_names_the_folders_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "all/cat/1.png", "all/dog/1.png")
    with pytest.raises(DataError, match=f"it holds {tmp_path}/all/cat, {tmp_path}/all/dog.*pass it instead"):
        check_classes(tmp_path, {"train": list_images(tmp_path, tmp_path)})
