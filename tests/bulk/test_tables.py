"""Parquet files of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.bulk.tables import describe_table, read_cells
from edgecls.errors import DataError


@given(rows=st.integers(1, 30), group=st.integers(1, 12), data=st.data())
def test_any_range_of_rows_is_read_whatever_the_groups(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    cells = [b"%d" % row for row in range(rows)]
    pq.write_table(pa.table({"bytes": cells}), path, row_group_size=group)
    assert list(read_cells(describe_table(str(path)), start, stop)) == cells[start:stop]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": [b"x"], "path": ["p"]}, ("image", False)),
        ({"path": ["p"], "bytes": [b"x"]}, ("bytes", False)),
        ({"url": ["p"]}, ("url", True)),
        ({"image": ["p"]}, ("image", True)),
        ({"image": [{"bytes": b"x", "path": None}]}, ("image", False)),
        # A column of another type is passed over.
        ({"image": [1], "path": ["p"]}, ("path", True)),
    ],
)
def test_the_column_of_images_is_found(tmp_path: Path, columns: dict[str, Any], expected: tuple[str, bool]) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    table = describe_table(str(path))
    assert (table.column, table.names_them, table.rows) == (*expected, 1)


def test_a_table_without_images_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [1.5], "label": ["a"]}), path)
    with pytest.raises(DataError, match=r"no column of images; its columns are image, label. Name one image, "):
        describe_table(str(path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 100])
def test_no_parquet_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    for name in (str(path), path.as_uri()):
        with pytest.raises(DataError, match=r"cannot read .*t.parquet as Parquet: \w"):
            describe_table(name)
