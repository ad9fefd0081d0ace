from __future__ import annotations

import pytest

from edgecls.images.split_names import class_in_names, find_splits, read_role

NONE: dict[str, frozenset[str]] = {}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            "train",
            "train Train TRAIN training training_set train_data trainset TrainData seg_train images_train train1",
        ),
        ("train", "train-images trainval 01_train my.train.2 trainA trainingimages imagestrain toy_train"),
        ("val", "val valid validation Validation_Set dev eval val2 images-val devset"),
        ("test", "test test1 Test testing test_set testset seg_test hold-out holdout held_out testdata chest_test"),
        ("", "cat strain latest contest invalid device protest 42 $5 + 猫 part1 set_2"),
    ],
)
def test_roles(role: str, names: str) -> None:
    assert {name: read_role(name) for name in names.split(" ")} == dict.fromkeys(names.split(" "), role)


@pytest.mark.parametrize(
    "names",
    [
        "train test",
        "train test val",
        "Train Test2",
        "training_set test_set",
        "seg_train seg_test seg_pred",
        "trainA trainB testA testB",
        "mnist-train mnist-test readme",
        "train1 train2",
        "fold1 fold2 fold3",
        "fold1 split1",
        "images masks",
        "images labels",
        "images test",
        "dev test cat",
    ],
)
def test_splits_and_collections_are_found(names: str) -> None:
    assert find_splits(names.split(), NONE)


@pytest.mark.parametrize(
    "names",
    [
        "train car plane",
        "steam_train toy_train",
        "steam_train crash_test",
        "valid invalid",
        "test control",
        "part1 part2",
        "batch_1 batch_2",
        "label1 label2",
        "sample_1 sample_2",
        "0 1 2",
        "1.5 2.5",
        "+ - $",
        "mask no_mask",
        "猫 犬",
        "class_1 class_2",
        "dev prod",
        "raw cooked",
        "cat",
    ],
)
def test_classes_are_left_alone(names: str) -> None:
    assert find_splits(names.split(), NONE) == []


def test_what_folders_hold_decides() -> None:
    animals = frozenset({"cat", "dog"})
    assert find_splits(["cat", "dog", "test"], {"test": animals}) == ["test"]
    assert find_splits(["cat", "dog", "test"], {"test": frozenset()}) == []
    assert find_splits(["training_set"], {"training_set": frozenset({"training_set"})}) == ["training_set"]
    assert find_splits(["batch_1", "batch_2"], {"batch_1": animals, "batch_2": animals}) == ["batch_1", "batch_2"]
    assert find_splits(["part1", "part2"], {"part1": animals, "part2": frozenset({"cat"})}) == []
    assert find_splits(["part1", "part2"], dict.fromkeys(("part1", "part2"), frozenset({"images"}))) == []
    assert find_splits(["type1", "type2"], dict.fromkeys(("type1", "type2"), animals)) == []


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ("cat.0.png cat.1.png dog.0.png dog.1.png", "cat dog"),
        ("great_pyrenees_1.jpg great_pyrenees_2.jpg pug_1.jpg pug_12.jpg", "great_pyrenees pug"),
        ("1-cat.png 2-cat.png 3_dog.png 4_dog.png", "cat dog"),
        ("IMG_1.png IMG_2.png DSC_1.png DSC_2.png", ""),
        ("0.png 1.png 2.png 3.png", ""),
        ("cat1.png dog1.png", ""),
        ("scan1.png scan2.png scan3.png", ""),
        ("", ""),
    ],
)
def test_the_class_in_file_names(files: str, classes: str) -> None:
    assert class_in_names(files.split()) == classes.split()
