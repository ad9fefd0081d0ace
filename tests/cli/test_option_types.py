from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import run

from edgecls.cli.option_types import DURATION, LATENCY, OutputFile, OutputFolder, Quantity, Several, Size


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        (DURATION, "90", 90),
        (DURATION, "1.5h", 5400),
        (LATENCY, "25ms", 25),
        (LATENCY, "0.1s", 100),
        (Size(), "300000", 300_000),
        (Size(), "500kB", 500_000),
        (Size(), "2 MB", 2_000_000),
        (Size(), "2gb", 2_000_000_000),
        (Size(), "1KiB", 1024),
        (Size(), "1", 1),
    ],
)
def test_quantities_are_numbers_with_a_unit(kind: Quantity, text: str, number: float) -> None:
    assert kind.convert(text, None, None) == number


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (DURATION, "5M", "'5M' is not a duration; write it as 90s, 5m or 1h"),
        (DURATION, "-1s", "is not a duration"),
        (LATENCY, "fast", "'fast' is not a latency; write it as 25ms or 0.1s"),
        (LATENCY, "25kB", "is not a latency"),
        (Size(), "", "'' is not a size"),
        (Size(), "2 parsecs", "is not a size"),
        (Size(), "0.5B", "'0.5B' is less than a byte"),
    ],
)
def test_other_texts_are_refused_with_examples(kind: Quantity, text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert message in caught.value.message


@pytest.mark.parametrize(("text", "values"), [("1,4", (1, 4)), ("4,1,4", (4, 1)), ((2,), (2,)), ((), ())])
def test_a_list_has_each_value_once(text: Any, values: tuple[int, ...]) -> None:
    assert Several(int, "n,n").convert(text, None, None) == values


def test_a_list_of_other_values_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="'many' is not a valid integer"):
        Several(int, "n,n").convert("1,many", None, None)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("JSON", b'{"schema": 3}'),
        ("JSON", b'[\n {\n  "file": "a.tflite"}]'),
        ("HTML", b"<!DOCTYPE html>\n<html>"),
        ("CSV", b"path,true,predicted,score\r\n"),
        ("PNG", b"\x89PNG\r\n\x1a\n tEXtSoftware\0Matplotlib version3"),
    ],
)
def test_only_files_of_edgecls_are_replaced(kind: str, own: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in (own, b""):
        path.write_bytes(content)
        assert OutputFile(kind).convert(str(path), None, None) == path
    assert OutputFile(kind).convert("-", None, None) == Path("-")
    for content in (b"\x89PNG\r\n\x1a\n a photo", b'{"labels": {}}', b"a,b\r\n", b"\x1c\0\0\0TFL3"):
        path.write_bytes(content)
        with pytest.raises(click.BadParameter, match=f"edgecls did not write it as {kind}, so it is not replaced"):
            OutputFile(kind).convert(str(path), None, None)
    with pytest.raises(click.BadParameter, match="is a folder"):
        OutputFile(kind).convert(str(tmp_path), None, None)


def test_a_file_that_could_not_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(click.BadParameter, match="file is no folder that takes files"):
        OutputFile("JSON").convert(str(tmp_path / "file" / "new" / "a.json"), None, None)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(click.BadParameter, match="cannot be written"):
        OutputFile("JSON").convert(str(tmp_path / "new" / "a.json"), None, None)
    assert OutputFile("JSON").convert("-", None, None) == Path("-")


def test_a_folder_that_could_not_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/new"):
        with pytest.raises(click.BadParameter, match="file is no folder that takes files"):
            OutputFolder({}).convert(str(tmp_path / name), None, None)
    for path in (tmp_path, tmp_path / "new" / "folder"):
        assert OutputFolder({}).convert(str(path), None, None) == path
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(click.BadParameter, match="cannot be written"):
        OutputFolder({}).convert(str(tmp_path / "new"), None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "photos", "--out", "file"),
        ("audit", "photos", "--out", "file"),
        ("audit", "photos", "--fix", "file/a.csv"),
    ],
)
def test_work_of_minutes_begins_only_if_its_result_can_be_written(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    done = run(*arguments)
    assert done.exit_code == 2 and "file is no folder that takes files; choose another one" in done.stderr


def test_a_folder_keeps_the_files_that_edgecls_did_not_write(tmp_path: Path) -> None:
    folder = OutputFolder({"a.json": "JSON", "a.png": "PNG"})
    (tmp_path / "a.json").write_text('{\n "schema": 1\n}')
    assert folder.convert(str(tmp_path), None, None) == tmp_path
    (tmp_path / "a.json").write_text('{"mine": 1}')
    with pytest.raises(click.BadParameter, match=r"a\.json exists, and edgecls did not write it as JSON, so it is not"):
        folder.convert(str(tmp_path), None, None)
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.png").mkdir()
    with pytest.raises(click.BadParameter, match=r"a\.png is a folder"):
        folder.convert(str(tmp_path), None, None)
