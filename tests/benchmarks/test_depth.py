from __future__ import annotations

from pathlib import Path

import depth
import numpy as np
from PIL import Image

NAMES = ("all", "12", "13", "14", "15", "16", "17")


def test_images_are_made_small_in_their_folders(tmp_path: Path) -> None:
    (tmp_path / "data" / "train" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "data" / "train" / "a" / "wide.jpg")
    out = depth.shrink(tmp_path / "data", tmp_path / "out", 48)
    (small,) = [path for path in out.rglob("*") if path.is_file()]
    assert small == tmp_path / "out" / "train" / "a" / "wide.png"
    with Image.open(small) as image:
        assert image.size == (48, 24) and image.mode == "L"


def test_the_table_marks_the_best_depth() -> None:
    accuracies = {name: 0.9 for name in map(str, range(1, 18))} | {"all": 0.9, "14": 0.98}
    header, row = depth.table({"rows": [{"image_size": 224, "images": 992, "accuracies": accuracies}]})
    assert header == ["image size", "images", "all blocks", *(f"{name} blocks" for name in NAMES[1:])]
    assert row == ["224", "992", "90.0 %", "90.0 %", "90.0 %", "**98.0 %**", "90.0 %", "90.0 %", "90.0 %"]
