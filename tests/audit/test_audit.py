from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import CLASSES, draw

from edgecls.audit.audit import Audit, audit, to_json
from edgecls.audit.judge import add_votes, find_wrong_labels
from edgecls.audit.moves import write_moves
from edgecls.audit.page import write_page
from edgecls.audit.summary import describe_accuracy, list_notes, list_rows
from edgecls.config import TrainConfig
from edgecls.images.dataset import load_dataset
from edgecls.images.layout import Layout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three easy classes in train/ and test/, with planted faults."""
    root, random = tmp_path_factory.mktemp("audit") / "photos", np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                # A mark of its own, so that two images of one class are not one picture.
                picture = draw(name, random).astype(int)
                picture = picture + np.kron(random.integers(-18, 19, (9, 10)), np.ones((4, 4), int))
                Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / part / name / f"{number}.png")
    bright, dark = root / "train/bright", root / "train/dark"
    (bright / "3.png").rename(dark / "wrong.png")
    Image.open(root / "test/striped/0.png").save(root / "train/striped/leak.jpg", quality=90)
    Image.open(dark / "5.png").save(bright / "both.png")
    Image.new("L", (40, 36)).save(dark / "black.png")
    (dark / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


@pytest.fixture(scope="module")
def found(data: Path, tiny_config: TrainConfig) -> Audit:
    return audit(data, tiny_config)


def test_every_planted_fault_is_found(found: Audit) -> None:
    record = json.loads(json.dumps(to_json(found)))
    pairs = [set(pair["images"]) for pair in record["near_duplicates"]]
    assert {"test/striped/0.png", "train/striped/leak.jpg"} in pairs
    assert {"train/dark/5.png", "train/bright/both.png"} in pairs and len(pairs) == 2
    wrong = {each["image"]: each["likely"] for each in record["likely_wrong_labels"]}
    assert wrong["train/dark/wrong.png"] == "bright" and wrong["train/bright/both.png"] == "dark"
    assert len(wrong) <= 4
    assert {"image": "train/dark/black.png", "kind": "black", "text": "all gray values are near 0"} in record["faults"]
    assert [each["image"] for each in record["unreadable"]] == ["train/dark/damaged.png"]
    assert record["images"] == sum(sum(parts.values()) for parts in record["classes"].values())
    assert record["accuracy"]["copies"] == 1 and record["accuracy"]["part"] == "test"
    assert 0.8 <= record["accuracy"]["without_copies"] <= 1


def test_the_smallest_and_the_largest_class_are_named(found: Audit) -> None:
    assert any("Classes: 3, from " in note and note.endswith(" training images.") for note in list_notes(found))


def test_the_table_can_be_applied(found: Audit, data: Path, tmp_path: Path) -> None:
    before = sorted(path.read_bytes() for path in data.rglob("*.*"))
    count = write_moves(found, tmp_path / "moves.csv")
    with (tmp_path / "moves.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == count and {row["action"] for row in rows.values()} == {"exclude"}
    # Test images are kept: the copy in train goes.
    assert "train/striped/leak.jpg" in rows and "test/striped/0.png" not in rows
    assert {"train/dark/black.png", "train/dark/wrong.png", "train/dark/5.png", "train/bright/both.png"} <= set(rows)
    dataset = load_dataset(
        data,
        32,
        val_fraction=0.2,
        test_fraction=0.2,
        seed=0,
        skip_bad=True,
        layout=Layout(exclude=str(tmp_path / "moves.csv")),
    )
    left = {*dataset.train.paths, *dataset.val.paths}
    assert not left & set(rows) and len(left) > 60
    assert sorted(path.read_bytes() for path in data.rglob("*.*")) == before


def test_the_page_shows_the_images_and_needs_nothing_else(found: Audit, tmp_path: Path) -> None:
    write_page(found, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 6 and "http" not in page and "<script" not in page
    assert "train/dark/wrong.png" in page and "damaged.png" in page
    assert f"Near duplicates across splits: {len(found.across())}" in page and "without copies" in page


def test_the_words_of_the_terminal(found: Audit) -> None:
    rows = {name: count for name, count, _ in list_rows(found)}
    assert (
        rows["duplicates across splits"] == len(found.across()) in (1, 2)
        and rows["contradictory labels"] == 1
        and rows["unreadable"] == 1
    )
    assert (
        "Without 1 training image, each a copy of a test image, the accuracy without the leak is "
        in describe_accuracy(found)
    )


def test_confident_learning_on_scores_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95], [0.45, 0.55]], np.float32)
    # The fifth is surely of class 1; the last is not above the mean of class 1.
    assert [index for index, _, _ in find_wrong_labels(scores, np.array([0, 0, 1, 1, 0, 0]))] == [4]
    assert find_wrong_labels(scores[:4], np.array([0, 0, 1, 1])) == []


def test_near_duplicates_vote_on_labels() -> None:
    scores = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]], np.float32)
    labels, pairs = np.array([0, 0, 1, 1]), np.array([[0, 2, 0.9], [1, 2, 0.8], [2, 2, 0]])[:2]
    votes = add_votes(scores, labels, pairs)
    expected = [[0.3, 0.7], [0.3, 0.7], [2.6 / 3, 0.4 / 3], [0.2, 0.8]]
    assert np.abs(votes - expected).max() < 1e-6
    # The means, 0.6 of both classes, are those of the classifier.
    found = find_wrong_labels(scores, labels, votes)
    assert [(index, likely) for index, likely, _ in found] == [(2, 0), (0, 1), (1, 1)]
    ((index, likely, margin),) = find_wrong_labels(scores, labels)
    assert (index, likely) == (2, 0) and margin == pytest.approx(0.2)


def test_groups_are_reported_and_measured(data: Path, tiny_config: TrainConfig) -> None:
    found = audit(data, dataclasses.replace(tiny_config, group=r"/([a-z]*\d?)\d*\.[a-z]+$"))
    record = to_json(found)["groups"]
    assert record["in_several_splits"] and 0 <= record["accuracy_of_folds_by_group"] <= 1
    assert {name: count for name, count, _ in list_rows(found)}["groups in several splits"] == len(found.torn)


def test_flat_images_are_split_by_group_as_train_splits_them(
    data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """Groups in several splits were reported that no training run has; those of a table were left out."""
    images = [path for path in sorted((data / "train").glob("*/*.png")) if path.name != "damaged.png"]
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name},{int(path.stem) // 4 if path.stem.isdigit() else 9}"
        for path in images
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,part", *rows]))
    config = dataclasses.replace(tiny_config, labels=(str(tmp_path / "labels.csv"),))
    found = audit(data / "train", config)
    assert found.torn == () and found.material.dataset.notes[-1].endswith(".") and found.group == ""
    assert "No group is in two splits" in found.material.dataset.notes[-1]
    assert found.group_accuracy is not None and found.random_accuracy is not None
    assert any(note.endswith("train splits so, by the table") for note in list_notes(found))
    assert audit(data / "train", dataclasses.replace(config, group="none")).group_accuracy is None
