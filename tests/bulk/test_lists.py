"""Lists of images as people and their systems write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecls.bulk.lists import read_list
from edgecls.errors import DataError

NAMES = ["a.png", "/photos/grün ä.png", "日本.png", "last one.png"]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "\ufeffutf-16-le", "\ufeffutf-16-be", "utf-32"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("as_url", [True, False])
def test_every_encoding_and_line_end_is_read(tmp_path: Path, encoding: str, end: str, last: bool, as_url: bool) -> None:
    path = tmp_path / "list.txt"
    mark = "\ufeff" if encoding[0] == "\ufeff" else ""
    text = mark + end.join(NAMES) + (end if last else "")
    path.write_bytes(text.encode(encoding.removeprefix("\ufeff")))
    assert list(read_list(path.as_uri() if as_url else str(path))) == NAMES


def test_quotes_marks_and_empty_lines_are_no_part_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('"really".png"').touch()
    Path('"b"').touch()
    path = tmp_path / "list.txt"
    path.write_bytes(b'"C:\\x y.png"\n\n  \n\'a b.png\'\n"b"\n\xef\xbb\xbfjoined.png\nit\'s.png\n\x1a')
    assert list(read_list(str(path))) == ["C:\\x y.png", "a b.png", '"b"', "joined.png", "it's.png"]


def test_bytes_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(b"there\xfc.png")).touch()
    path = tmp_path / "list.txt"
    path.write_bytes(b"there\xfc.png\nprice \x80 gr\xfcn.png\nplain \xc3\xbc.png")
    # As the file system has it; as Windows writes it; UTF-8 all the same.
    assert list(read_list(str(path))) == ["there\udcfc.png", "price € grün.png", "plain ü.png"]
    path.write_bytes(b"a.png\nb\x81.png\n")
    with pytest.raises(DataError, match=r"line 2 of .*list\.txt is neither UTF-8 nor cp1252: b\\x81\.png; save"):
        list(read_list(str(path)))


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfea\0b")
    with pytest.raises(DataError, match=r"cannot read the list .*list\.txt: .*save it as UTF-8"):
        list(read_list(str(path)))
