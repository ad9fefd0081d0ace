from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from edgecls.audit import moves
from edgecls.images.label_tables import read_excluded
from edgecls.images.leftovers import LeftOut


def test_no_cell_is_a_formula_and_train_reads_the_table_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["=cmd/-1.png", "good/2.png"]
    for path in paths:
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / path)
    found: Any = SimpleNamespace(
        material=SimpleNamespace(paths=paths),
        label=lambda index: paths[index].split("/")[0],
        part=lambda _: "train",
    )
    monkeypatch.setattr(
        moves, "list_moves", lambda _: [(0, "black: only black"), (1, "the same picture as =cmd/-1.png")]
    )
    assert moves.write_moves(found, tmp_path / "moves.csv") == 2
    rows = list(csv.DictReader((tmp_path / "moves.csv").read_text().splitlines()))
    assert [(row["image"], row["class"]) for row in rows] == [("./=cmd/-1.png", "'=cmd"), ("good/2.png", "good")]
    assert read_excluded(tmp_path / "data", str(tmp_path / "moves.csv"), LeftOut()) == set(paths)
