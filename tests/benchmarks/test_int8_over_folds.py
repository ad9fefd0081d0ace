from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import int8_over_folds
import pytest


def record(images: int, float_right: int, lost: int, won: int) -> dict[str, Any]:
    file = {"format": "tflite", "right_to_wrong": lost, "wrong_to_right": won}
    file |= {"agreement": 1 - (lost + won) / images, "drop": (lost - won) / images}
    return {"images": images, "float_accuracy": float_right / images, "files": [file]}


def test_folds_of_unlike_size_are_pooled_image_by_image() -> None:
    (row,) = int8_over_folds.pool([record(100, 90, 4, 1), record(300, 297, 0, 1)])
    assert row["images"] == 400
    assert row["float_accuracy"] == pytest.approx(387 / 400)
    assert row["accuracy"] == pytest.approx(385 / 400)
    assert row["drop"] == pytest.approx(2 / 400)
    assert row["drop_low"] < 0 < row["drop"] < row["drop_high"] < 0.02
    assert row["agreement"] == pytest.approx(394 / 400)
    header, cells = int8_over_folds.table({"rows": [{"effort": "normal"} | row]})
    assert dict(zip(header, cells, strict=True))["worst fold"] == "3.00 points" and cells[:3] == [
        "normal",
        "tflite",
        "400",
    ]


def test_each_image_is_tested_once_and_never_where_it_is_learned_from(tmp_path: Path) -> None:
    data, tested = tmp_path / "data", []
    for part, count in (("train", 7), ("test", 4)):
        for name in ("a", "b"):
            folder = data / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_text(f"{part} {name} {number}")
    images = int8_over_folds.images_of(data)
    assert {name: len(paths) for name, paths in images.items()} == {"a": 11, "b": 11}
    for fold in range(3):
        out = tmp_path / f"fold{fold}"
        for _ in range(2):  # the second time continues
            int8_over_folds.link_fold(images, fold, 3, out)
        parts = {part: [path.read_text() for path in out.glob(f"{part}/*/*")] for part in ("train", "test")}
        assert len(parts["train"]) + len(parts["test"]) == 22
        assert not set(parts["train"]) & set(parts["test"])
        tested += parts["test"]
    assert len(tested) == len(set(tested)) == 22


def test_a_run_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "export.json").write_text(json.dumps(record(100, 90, 4, 1)))
    # There are no images, so a training would fail.
    assert int8_over_folds.run_fold(tmp_path / "data", tmp_path / "run", "quick", 0) == record(100, 90, 4, 1)
