"""Reads tables of images: CSV, TSV, Parquet, JSON lines, and lists of a path and a label in each line.

pyarrow is imported on use.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecls.errors import DataError, MissingDependency

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Spreadsheets, databases, pandas and R write these for "no value"; that is no label.
NOTHING: tuple[str, ...] = ("", "nan", "NaN", "NAN", "None", "null", "NULL", "Null", "NA", "N/A", "n/a", "<NA>", "NaT")
NOTHING += ("#N/A", "#NA", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!", "\\N")
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".xml", ".yaml", ".yml")
_MOST_FIELD_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Table:
    """The text of a table."""

    name: str  # of its file
    columns: tuple[str, ...]  # their names; of a list without names, "1", "2" and so on
    rows: list[tuple[str, ...]]  # the cells of each row, as many as columns
    first_line: int = 1  # number of the first row in the file, for messages
    nested: frozenset[str] = frozenset()  # columns with lists or objects of JSON in a cell
    is_unicode: bool = True  # False if it was read as Windows-1252, which any bytes may be

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_table(path: Path, names_image: Any) -> Table:
    """Return the content of a table.

    Args:
        path: of a file.
        names_image: returns whether a text names an image: only then can a list be told from a table with a header.

    Raises:
        DataError: it cannot be read, is empty, or its rows differ in length. MissingDependency: pyarrow is missing.
    """
    try:
        table = _read(path, names_image)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read the table {path}: {error.strerror}; check its path and permissions") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table {path} ({error}); save it as CSV in UTF-8") from error
    if not table.rows:
        raise DataError(f"the table {path} has no row; fill it, or leave it out")
    return table


def _read(path: Path, names_image: Any) -> Table:
    suffix = path.suffix.lower()
    if suffix in _SPREADSHEETS:
        raise DataError(f"{path} is no table that can be read; save it as CSV")
    if suffix == ".parquet":
        return _read_parquet(path)
    text, is_unicode = _decode(path.read_bytes())
    table = _read_json(path, text) if suffix in (".json", ".jsonl", ".ndjson") else _read_text(path, text, names_image)
    return replace(table, is_unicode=is_unicode)


def _decode(content: bytes) -> tuple[str, bool]:
    """Return the text, and whether it is Unicode and not taken for Windows-1252."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding), True
    except UnicodeDecodeError:
        return content.decode("cp1252"), False


def _read_text(path: Path, text: str, names_image: Any) -> Table:
    # Excel may name the separator in a line of its own, and hides that line.
    text = re.sub(r"\A\"?sep=.\"?\r?\n", "", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if all(names_image(line.strip()) for line in lines[:100]):
        return Table(path.name, ("1",), [(line.strip(),) for line in lines])
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    # Of cells and not of lines, as a cell in quotes may hold several lines.
    delimiter = max(",;\t|", key=lambda each: min(map(len, _split(text, each, 100)), default=0))
    if not lines or delimiter not in lines[0]:
        # The path comes first and may hold spaces; the label is the last word.
        rows = [tuple(line.rsplit(maxsplit=1)) for line in lines]
    else:
        rows = _split(text, delimiter)
    # A header may be called as an image is, but not the cells below it too.
    if not rows or any(all(map(names_image, pair)) for pair in zip(rows[0], rows[min(1, len(rows) - 1)], strict=False)):
        return _check(path, tuple(str(number + 1) for number in range(len(rows[0]) if rows else 0)), rows, 1)
    return _check(path, rows[0], rows[1:], 2)


def _split(text: str, delimiter: str, most: int | None = None) -> list[tuple[str, ...]]:
    """Return the cells of each row that is not empty, or of the first rows."""
    rows = (tuple(cell.strip() for cell in row) for row in csv.reader(io.StringIO(text), delimiter=delimiter))
    return list(itertools.islice((row for row in rows if any(row)), most))


def _check(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]], first_line: int) -> Table:
    for number, row in enumerate(rows, first_line):
        if len(row) != len(columns):
            raise DataError(
                f"row {number} of {path} has {len(row)} cells, and the first row {len(columns)}: {','.join(row)[:80]}; "
                "correct it, or put cells that hold a comma into double quotes"
            )
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{path} has two columns called {repeated[0]!r}; rename one")
    return Table(path.name, columns, rows, first_line)


def _read_json(path: Path, text: str) -> Table:
    to_object = functools.partial(_to_object, path.name)
    if path.suffix.lower() == ".json":
        found = json.loads(text, object_pairs_hook=to_object)
        if isinstance(found, dict) and all(isinstance(each, (str, int)) for each in found.values()):
            found = [{"path": key, "label": value} for key, value in found.items()]
    else:
        # Not splitlines: a text in JSON may hold other line breaks than these.
        found = [json.loads(line, object_pairs_hook=to_object) for line in text.split("\n") if line.strip()]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{path} must hold one JSON object for each image, with its path and its label; save it so")
    return _from_records(path, found)


def _to_object(table: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise DataError if it gives one name two values, of which Python keeps the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise DataError(f"in {table}, {name!r} has two values, {found[name]!r} and {value!r}; keep one")
    return found


def _read_parquet(path: Path) -> Table:
    if find_spec("pyarrow") is None:
        raise MissingDependency(f"{path} is a Parquet file, which needs pyarrow: pip install pyarrow")
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.lib.ArrowException as error:
        raise DataError(f"cannot read {path} as Parquet: {error}") from error
    # What is no text and no number, such as the images themselves, is no label.
    types = pyarrow.types
    kept = [f.name for f in table.schema if not (types.is_nested(f.type) or types.is_binary(f.type))]
    return _from_records(path, table.select(kept).to_pylist())


def _from_records(path: Path, records: Sequence[dict[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(key for record in records for key in record))
    nested = frozenset(key for record in records for key, value in record.items() if isinstance(value, (dict, list)))
    rows = [tuple(_text(record.get(key)) for key in columns) for record in records]
    return Table(path.name, columns, rows, nested=nested)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)  # NaN


def is_nothing(cells: Iterable[str]) -> bool:
    """Return whether all cells are empty, or what programs write for no value."""
    return all(cell in NOTHING for cell in cells)
