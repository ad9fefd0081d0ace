from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from folder_trees import touch
from tiny import make_data

from edgecls.errors import DataError
from edgecls.images.dataset import load_dataset
from edgecls.images.folders import Groups
from edgecls.images.grouping import check_groups, describe_groups, find_groups, split_by_group
from edgecls.images.layout import Layout, list_dataset
from edgecls.images.leftovers import LeftOut

FRACTIONS = {"val": 0.15, "test": 0.15}


def make_groups(seed: int, mixed: bool = True) -> tuple[Groups, dict[str, str]]:
    """Groups of 1 to 12 images of one or several of three classes, very unequal in size."""
    random = np.random.default_rng(seed)
    classes: Groups = {"a": [], "b": [], "c": []}
    group_of = {}
    for group in range(60):
        own = random.choice(list(classes), p=(0.7, 0.2, 0.1))
        for number in range(int(random.integers(1, 13))):
            name = str(random.choice(list(classes))) if mixed and random.random() < 0.2 else str(own)
            path = f"{name}/{group}-{number}.png"
            classes[name].append(path)
            group_of[path] = str(group)
    return classes, group_of


def parts_of(parts: Mapping[str, Groups], group_of: Mapping[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part, classes in parts.items():
        for path in (path for paths in classes.values() for path in paths):
            found.setdefault(group_of.get(path, path), set()).add(part)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mixed", [False, True])
def test_no_group_is_in_two_parts_and_the_parts_are_stratified(seed: int, mixed: bool) -> None:
    classes, group_of = make_groups(seed, mixed)
    parts = split_by_group(classes, FRACTIONS, seed, group_of)
    assert all(len(found) == 1 for found in parts_of(parts, group_of).values())
    for name, paths in classes.items():
        assert sorted(path for part in parts.values() for path in part[name]) == sorted(paths)
        for part, wanted in FRACTIONS.items():
            # A group of 12 is a large part of the smallest class.
            assert abs(len(parts[part][name]) / len(paths) - wanted) < 12 / len(paths) + 0.02
    assert parts == split_by_group(classes, FRACTIONS, seed, group_of)
    assert parts != split_by_group(classes, FRACTIONS, seed + 1, group_of)


def test_every_class_is_in_train_first() -> None:
    classes = {"a": ["1", "2", "3", "4"], "b": ["5", "6", "7", "8"]}
    one_group_of_b = {path: "x" for path in classes["b"]}
    parts = split_by_group(classes, FRACTIONS, 0, one_group_of_b)
    assert parts["train"]["b"] == classes["b"] and all(parts[part]["a"] for part in parts)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 groups, the largest of 4 images, leave none for val"):
        split_by_group(
            {"a": list("1234"), "b": list("5678")}, FRACTIONS, 0, dict(zip("12345678", "xxxxyyyy", strict=True))
        )


def test_groups_across_given_splits_are_refused() -> None:
    parts = {"train": {"a": ["1", "2"]}, "test": {"a": ["3"]}}
    check_groups(parts, {"1": "x", "2": "x", "3": "y"})
    with pytest.raises(DataError, match=r"1 of 1 groups stand in two or more of train, test, such as x"):
        check_groups(parts, {"1": "x", "3": "x"})


def test_groups_from_names_folders_and_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a/p1/x_1.png", "a/p2/x_2.png", "b/p1/y_1.png")
    listing = list_dataset(tmp_path)
    folders = {"a/p1/x_1.png": "p1", "a/p2/x_2.png": "p2", "b/p1/y_1.png": "p1"}
    assert find_groups(tmp_path, listing, "folder") == folders
    assert find_groups(tmp_path, listing, r"(p\d)/") == folders
    assert list(find_groups(tmp_path, listing, r"_\d").values()) == ["_1", "_2", "_1"]
    (tmp_path / "groups.csv").write_text("file,patient\nx_1.png,7\ny_1.png,7\n")
    assert find_groups(tmp_path, listing, str(tmp_path / "groups.csv")) == {"a/p1/x_1.png": "7", "b/p1/y_1.png": "7"}
    with pytest.raises(DataError, match="finds nothing in the paths of 2 of 3 images"):
        find_groups(tmp_path, listing, "x_1|nothing")
    with pytest.raises(DataError, match="1 of 4 images lie in no folder inside their class folder, such as b/flat"):
        find_groups(tmp_path, list_dataset(touch(tmp_path, "b/flat.png")), "folder")


def test_a_folder_of_a_group_may_be_called_like_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "1/1/a.png", "1/2/b.png", "2/1/c.png")
    assert find_groups(tmp_path, list_dataset(tmp_path), "folder") == {
        "1/1/a.png": "1",
        "1/2/b.png": "2",
        "2/1/c.png": "1",
    }
    with pytest.raises(DataError, match="1 of 4 images lie in no folder inside their class folder, such as 2/flat"):
        find_groups(tmp_path, list_dataset(touch(tmp_path, "2/flat.png")), "folder")


@pytest.mark.parametrize("nothing", ["", "NA", "nan", "NULL", "#N/A"])
def test_what_programs_write_for_no_value_is_no_group(nothing: str, tmp_path: Path) -> None:
    """As in a table of labels: else all these images were one group, and stood on one side of the split."""
    touch(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / "groups.csv").write_text(f"file,patient\n1.png,7\n2.png,{nothing}\n3.png,{nothing}\n")
    assert find_groups(tmp_path, list_dataset(tmp_path), str(tmp_path / "groups.csv")) == {"a/1.png": "7"}
    (tmp_path / "groups.csv").write_text(f"file,patient\n1.png,{nothing}\n2.png,{nothing}\n")
    with pytest.raises(DataError, match=r"groups\.csv puts no image in a group; fill its column of groups"):
        find_groups(tmp_path, list_dataset(tmp_path), str(tmp_path / "groups.csv"))


def test_an_image_in_two_groups_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "groups.csv").write_text("file,patient\n1.png,7\n2.png,8\n1.png,9\n")
    with pytest.raises(DataError, match=r"cannot read the table gone\.csv: No such file .*; check its path"):
        find_groups(tmp_path, list_dataset(tmp_path), "gone.csv")
    with pytest.raises(DataError, match=r"groups\.csv gives a/1\.png two groups, '7' and '9'; keep one"):
        find_groups(tmp_path, list_dataset(tmp_path), str(tmp_path / "groups.csv"))


def test_a_table_that_names_groups_is_used_unless_told_not_to(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "labels.csv").write_text("file,label,video\n1.png,a,v\n2.png,b,v\n3.png,b,\n")
    listing = list_dataset(tmp_path, Layout(labels=(str(tmp_path / "labels.csv"),)))
    assert find_groups(tmp_path, listing) == {"1.png": "v", "2.png": "v"}
    assert find_groups(tmp_path, listing, "none") == {}


def test_a_run_splits_by_group_and_says_how_well(tmp_path: Path) -> None:
    data = load_dataset(
        make_data(tmp_path / "images", 24),
        32,
        val_fraction=0.2,
        test_fraction=0.2,
        seed=0,
        layout=Layout(group=r"([^/]+/\d)"),
    )
    groups = [{data.group_of[path] for path in split.paths} for split in (data.train, data.val, data.test) if split]
    assert len(groups) == 3 and sum(map(len, groups)) == len(set.union(*groups))
    assert re.search(r"\d+ groups of \d+ to \d+ images?\. No group is in two splits: val has \d", data.notes[-1])


def test_groups_of_one_image_are_pointless() -> None:
    (text,) = describe_groups({"train": {"a": ["1", "2"]}}, {"1": "x", "2": "y"}, {})
    assert text == "2 groups of 1 to 1 images: no group has two images, so --group changes nothing."


def test_excluded_images_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    table, left_out = tmp_path / "moves.csv", LeftOut()
    table.write_text("image,action,reason\na/1.png,exclude,black\nb/1.png,keep,looks right\n")
    listing = list_dataset(tmp_path, Layout(exclude=str(table)), left_out)
    assert listing.parts["train"] == {"a": ["a/2.png"], "b": ["b/1.png", "b/2.png"]}
    assert "1 named by moves.csv" in str(left_out)
    for text, message in (
        ("image,action\na/1.png,move\n", "action 'move'; an action is exclude or keep"),
        ("image\na/1.png\n1.png\n", r"1 of 2 images of moves\.csv are not in the folder, or may be several there: 1"),
        ("image\na/1.png\ngone.png\n", "gone"),
        ("image,action\na/1.png,exclude\na/2.png,keep\na/1.png,keep\n", "both actions, exclude and keep, for a/1.png;"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            list_dataset(tmp_path, Layout(exclude=str(table)))
