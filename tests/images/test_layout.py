from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from folder_trees import touch

from edgecls.errors import ConfigError, DataError
from edgecls.images.layout import Layout, list_dataset
from edgecls.images.leftovers import LeftOut

ROWS = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "cat"), ("d.png", "dog")]


def table(root: Path, name: str, text: str, encoding: str = "utf-8") -> tuple[str, ...]:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    return (str(root / name),)


def flat(root: Path) -> Path:
    return touch(root, *(name for name, _ in ROWS))


def comma(*columns: str) -> str:
    return "\n".join([",".join(columns), *(",".join(row) for row in ROWS)]) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("labels.csv", comma("image", "label"), "utf-8"),
        ("labels.csv", comma("id", "dx"), "utf-8-sig"),
        ("labels.csv", comma("Filename", "whatever").replace(",", ";"), "utf-16"),
        ("labels.tsv", comma("x", "y").replace(",", "\t"), "cp1252"),
        # Names without suffix; without a header; a path that begins outside.
        ("labels.csv", comma("id", "label").replace(".png", ""), "utf-8"),
        ("labels.csv", comma("id", "label").partition("\n")[2], "utf-8"),
        ("labels.csv", comma("path", "class").replace("png", "png").replace("\n", "\r\n"), "utf-8"),
        # A cell of several lines; the line in which Excel names the separator.
        ("labels.csv", "id;label;note\n" + "".join(f'{path};{label};"a\nb"\n' for path, label in ROWS), "utf-8"),
        ("labels.csv", "sep=;\n" + comma("id", "label").replace(",", ";"), "utf-8"),
        ("list.txt", "".join(f"{path} {label}\n" for path, label in ROWS), "utf-8"),
        ("labels.jsonl", "".join(json.dumps({"file_name": p, "label": c}) + "\n" for p, c in ROWS), "utf-8"),
        ("labels.json", json.dumps([{"image": p, "category": c, "box": [1, 2]} for p, c in ROWS]), "utf-8"),
        ("labels.json", json.dumps(dict(ROWS)), "utf-8"),
        # A column for each class, as Roboflow writes it; the number and the name of a class.
        ("_classes.csv", "filename, cat, dog\na.png,1,0\nb.png,0,1\nc.png,1,0\nd.png,0,1\n", "utf-8"),
        ("labels.csv", "id,class_id,class\na.png,0,cat\nb.png,1,dog\nc.png,0,cat\nd.png,1,dog\n", "utf-8"),
    ],
)
def test_labels_in_a_table(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    listing = list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, name, text, encoding)))
    assert listing.parts == {"train": {"cat": ["a.png", "c.png"], "dog": ["b.png", "d.png"]}} and listing.is_flat
    assert listing.notes[0].startswith(f"Read {name}: 4 rows, images from column ")


def test_labels_in_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images, labels = zip(*ROWS, strict=True)
    parquet.write_table(
        pyarrow.table({"path": images, "label": [labels.index(each) for each in labels], "raw": [b"x"] * 4}),
        tmp_path / "labels.parquet",
    )
    listing = list_dataset(flat(tmp_path), Layout(labels=(str(tmp_path / "labels.parquet"),)))
    assert listing.parts["train"] == {"0": ["a.png", "c.png"], "1": ["b.png", "d.png"]}


@pytest.mark.parametrize(
    ("encoding", "is_told"), [("utf-8", False), ("utf-16", False), ("gbk", True), ("cp1252", True)]
)
def test_a_guessed_encoding_is_told(encoding: str, is_told: bool, tmp_path: Path) -> None:
    names = {"cat": "\xb7", "dog": "\xb0"}
    text = "image,label\n" + "".join(f"{name},{names[label]}\n" for name, label in ROWS)
    listing = list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, "labels.csv", text, encoding)))
    assert ("read as Windows-1252: check the names of the classes" in listing.notes[0]) == is_told


def test_absolute_paths_into_the_folder_are_read(tmp_path: Path) -> None:
    text = "".join(f"{tmp_path}/{name},{label}\n" for name, label in ROWS)
    listing = list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, "labels.csv", f"path,label\n{text}")))
    assert listing.parts["train"] == {"cat": ["a.png", "c.png"], "dog": ["b.png", "d.png"]}
    elsewhere = table(tmp_path, "other.csv", "path,label\n/home/me/a.png,cat\n/home/me/b.png,dog\n")
    with pytest.raises(DataError, match=r"no column of other\.csv names .* or write them relative to DATA"):
        list_dataset(tmp_path, Layout(labels=elsewhere))


def test_split_and_group_columns_are_used_and_reported(tmp_path: Path) -> None:
    rows = (
        "image,label,split,patient_id\na.png,cat,train,p1\nb.png,dog,Training,p1\nc.png,cat,valid,p2\nd.png,dog,test,\n"
    )
    listing = list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, "labels.csv", rows)))
    assert listing.parts == {
        "train": {"cat": ["a.png"], "dog": ["b.png"]},
        "val": {"cat": ["c.png"], "dog": []},
        "test": {"cat": [], "dog": ["d.png"]},
    }
    assert not listing.is_flat and listing.group_of == {"a.png": "p1", "b.png": "p1", "c.png": "p2"}
    assert "the split from column 'split', the group from column 'patient_id'" in listing.notes[0]
    again = Layout(labels=table(tmp_path, "labels.csv", rows), columns="split=,group=")
    assert list_dataset(tmp_path, again).is_flat and not list_dataset(tmp_path, again).group_of


def test_tables_of_one_split_each(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "train/1.png", "test/0.png", "test/1.png", "valid/0.png")
    texts = {"train.csv": "0,cat\n1,dog\n", "test.csv": "0,dog\n1,cat\n"}
    labels = tuple(table(tmp_path, name, f"id,label\n{text}")[0] for name, text in texts.items())
    left_out = LeftOut()
    listing = list_dataset(tmp_path, Layout(labels=labels), left_out)
    assert listing.parts == {
        "train": {"cat": ["train/0.png"], "dog": ["train/1.png"]},
        "test": {"cat": ["test/1.png"], "dog": ["test/0.png"]},
    }
    assert "1 not named by the table" in str(left_out)
    wrong = (*labels, *table(tmp_path, "more/test.csv", "id,label\ntrain/0.png,cat\n"))
    with pytest.raises(DataError, match=r"test\.csv gives train/0\.png two splits, 'train' and 'test'"):
        list_dataset(tmp_path, Layout(labels=wrong))
    with pytest.raises(DataError, match=r"row 2 of all\.csv may mean test/0\.png, train/0\.png, valid/0\.png"):
        list_dataset(tmp_path, Layout(labels=table(tmp_path, "all.csv", "id,label\n0,cat\n")))


def test_a_list_of_paths_takes_the_class_from_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/2.png", "dog/3.png")
    listing = list_dataset(tmp_path, Layout(labels=table(tmp_path, "meta/train.txt", "cat/1.png\ndog/2\n")))
    assert listing.parts == {"train": {"cat": ["cat/1.png"], "dog": ["dog/2.png"]}}
    assert "the class from the folder of each image; all its images are for train" in listing.notes[0]


@pytest.mark.parametrize(
    ("text", "message", "columns"),
    [
        ("image,a,b\na.png,1,x\nb.png,2,y\n", r"columns a, b of .* pass --columns label=a", "label=b"),
        ("one,two,label\na.png,b.png,x\nb.png,a.png,y\n", r"one, two of .* with --columns image=one", "image=two"),
        ("image,class,label\na.png,1,x\nb.png,1,y\n", r"class, label of .* --columns label=class", "label=label"),
        ("image,label,split\na.png,x,0\nb.png,y,1\n", r"row 2 .* split '0', .* again with --columns split=", "split="),
    ],
)
def test_ambiguous_tables_are_an_error_whose_option_works(
    tmp_path: Path, text: str, message: str, columns: str
) -> None:
    labels = table(flat(tmp_path), "labels.csv", text)
    with pytest.raises(DataError, match=message):
        list_dataset(tmp_path, Layout(labels=labels))
    assert list(list_dataset(tmp_path, Layout(labels=labels, columns=columns)).parts["train"]) in (["x", "y"],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,x\ngone.png,y\n", r"1 of 2 rows of labels\.csv name no image in the folder: gone\.png"),
        ("image,label\nu.png,x\nv.png,y\n", r"no column of labels\.csv names images in the folder; its columns are"),
        ("image,label\na.png,x\na.png,y\n", r"gives a\.png two labels, 'x' and 'y'"),
        ("image,label,split\na.png,x,train\nb.png,y,test\na.png,x,test\n", "two splits, 'train' and 'test'; .*split="),
        ("image,label,patient\na.png,x,1\nb.png,y,2\na.png,x,3\n", "two groups, '1' and '3'; .*--columns group="),
        ("image,label\na.png,x,z\n", r"row 2 of .* has 3 cells, and the first row 2"),
        ("image,label,label\na.png,x,z\n", "two columns called 'label'"),
        ("image,cat,dog\na.png,1,1\nb.png,0,1\n", r"row 2 .* has 1 in 2 of the columns cat, dog"),
        ("image,label\n", "has no row"),
        ("image,label\na.png,x\x07y\n", r"class 'x\\x07y' has control"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, "labels.csv", text)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"a.png": "x", "b.png": "y", "a.png": "y"}', r"'a\.png' has two values, 'x' and 'y'; keep one"),
        (
            "a.jsonl",
            '{"image": "a.png", "label": ["x", "y"]}\n',
            r"column 'label' of a\.jsonl holds lists .* \['x', 'y'\]",
        ),
        ("a.json", '[{"image": "a.png", "label": {"name": "x"}}]', r"column 'label' of a\.json holds lists or objects"),
    ],
)
def test_json_that_does_not_say_one_class_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, name, text)))


@pytest.mark.parametrize("nothing", ["nan", "NULL", "#N/A", "<NA>", "#REF!", "\\N"])
def test_rows_without_a_label_are_counted(nothing: str, tmp_path: Path) -> None:
    left_out = LeftOut()
    text = f"image,label\na.png,x\nb.png,y\nc.png,\nd.png,{nothing}\n"
    list_dataset(flat(tmp_path), Layout(labels=table(tmp_path, "labels.csv", text)), left_out)
    assert "2 without a label in the table" in str(left_out) and "not named" not in str(left_out)


@pytest.mark.parametrize(
    "names", ["cat.0 cat.1 dog.0 dog.1", "0_cat 1_cat 0_dog 1_dog", "big_cat_1 big_cat_2 pug (1) pug (2)"]
)
def test_the_option_of_the_error_reads_the_class_from_names(tmp_path: Path, names: str) -> None:
    files = re.findall(r"\S+(?: \(\d\))?", names)
    touch(tmp_path, *(f"{name}.png" for name in files))
    with pytest.raises(DataError) as caught:
        list_dataset(tmp_path)
    option = re.search(r"--class-from (.*)$", str(caught.value))
    assert option
    parts = list_dataset(tmp_path, Layout(class_from=shlex.split(option[1])[0])).parts
    assert [len(paths) for paths in parts["train"].values()] == [2, 2]
    assert set(parts["train"]) <= {"cat", "dog", "big_cat", "pug"}


def test_class_from_takes_splits_from_folders_and_must_fit_all(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat.0.png", "train/dog.0.png", "valid/cat.1.png")
    listing = list_dataset(tmp_path, Layout(class_from=r"(\w+)\.\d"))
    assert listing.parts["val"] == {"cat": ["valid/cat.1.png"], "dog": []} and not listing.is_flat
    assert list_dataset(tmp_path, Layout(class_from=r"(\w+)\.\d", splits="none")).is_flat
    touch(tmp_path, "test/0.png")
    with pytest.raises(DataError, match=r"finds nothing in the paths of 1 of 4 images, such as test/0\.png"):
        list_dataset(tmp_path, Layout(class_from=r"(\w+)\.\d"))
    touch(tmp_path, "bird.2.png")
    with pytest.raises(DataError, match=r"1 image is in no split, such as bird.* with --splits none"):
        list_dataset(tmp_path, Layout(class_from=r"([a-z]+)\W?\d"))


def test_unlabeled_test_images_are_an_error_whose_option_works(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/1.png")
    with pytest.raises(DataError, match="they have no labels, leave them out with --splits train=train"):
        list_dataset(tmp_path)
    left_out = LeftOut()
    assert list(list_dataset(tmp_path, Layout(splits="train=train"), left_out).parts) == ["train"]
    assert "1 in test (not named by --splits)" in str(left_out)


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": ("a",), "class_from": "b"},
        {"columns": "a=b"},
        {"class_from": "("},
        {"class_from": "a", "splits": "train=b"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="--"):
        Layout(**settings)  # type: ignore[arg-type]
