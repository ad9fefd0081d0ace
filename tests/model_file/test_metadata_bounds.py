"""Metadata with right checksums that is too deep, too long or of too many parts."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import pytest
from spec_cases import KINDS, TFLITE, forge

from edgecls.errors import ModelFileError
from edgecls.model_file.read import read_model_file


@pytest.mark.parametrize("zip64", [False, True])
def test_a_directory_of_many_members_is_not_read(zip64: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    members = (b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a") * 3
    start = len(TFLITE)
    said = 2 if zip64 else 3
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, said, said, 47 * said, start, 0)
    if zip64:
        record = struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 3, 3, len(members), start)
        end = b"PK\6\6" + record + b"PK\6\7" + struct.pack("<IQI", 0, start + len(members), 1) + end
    data = TFLITE + members + end
    assert len(zipfile.ZipFile(io.BytesIO(data)).infolist()) == 3
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read"))
    with pytest.raises(ModelFileError, match="no edgecls metadata"):
        read_model_file(data)


@KINDS
@pytest.mark.parametrize("name", ["metrics", "later"])
def test_deep_metadata_are_refused(kind: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(ModelFileError, match="nested more than 20 deep"):
        read_model_file(forge(kind, monkeypatch, **{name: {"a": deep}}))


@KINDS
def test_a_huge_version_takes_no_page(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="newer edgecls") as raised:
        read_model_file(forge(kind, monkeypatch, format_version=10**4000))
    assert len(str(raised.value)) < 200
