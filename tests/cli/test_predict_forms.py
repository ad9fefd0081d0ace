from __future__ import annotations

import csv
from typing import Any

import pytest

from edgecls.cli.predict import STDIN, Output

LABELS = ["=1+1", "ok"]


def entry(image: str, label: str | None, **more: Any) -> dict[str, Any]:
    scores = {"=1+1": 0.75, "ok": 0.25}
    return {"image": image, "label": label, "index": 0, "score": 0.75, "scores": scores} | more


def read_csv(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


@pytest.mark.parametrize(
    ("image", "cell"),
    [
        ("=cmd|x.png", "./=cmd|x.png"),
        ("-1.png", "./-1.png"),
        ("+a/b.png", "./+a/b.png"),
        ("@x.png", "./@x.png"),
        ("photos/=x.png", "photos/=x.png"),
        ("/=x.png", "/=x.png"),
        (STDIN, STDIN),
    ],
)
def test_no_cell_of_csv_is_a_formula(capsys: pytest.CaptureFixture[str], image: str, cell: str) -> None:
    output = Output("csv", 1)
    output.begin(LABELS, ["smoothed", "defect"])
    output.write(entry(image, "=1+1", smoothed="=1+1", defect=True))
    (row,) = read_csv(capsys)
    assert (row["image"], row["label"], row["smoothed"], row["defect"]) == (cell, "'=1+1", "'=1+1", "true")
    assert (row["scores.=1+1"], row["score"]) == ("0.750000", "0.750000")


def test_a_missing_label_is_an_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output("csv", 1)
    output.begin(LABELS, ["smoothed"])
    output.write(entry("a.png", None, smoothed=None))
    (row,) = read_csv(capsys)
    assert (row["label"], row["smoothed"]) == ("", "")


def test_other_forms_have_the_true_names(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "jsonl", "json"):
        output = Output(form, 1)
        output.begin(LABELS)
        output.write(entry("=x.png", "=1+1"))
        output.end()
        shown = capsys.readouterr().out
        assert "=x.png" in shown and "./=x.png" not in shown and "'=1+1" not in shown
