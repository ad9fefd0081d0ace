"""Parquet files with a column of encoded images or of their paths. pyarrow is imported on use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgecls.bulk.storage import import_arrow, is_url, open_url
from edgecls.errors import DataError
from edgecls.messages.lists import some

SUFFIX = ".parquet"
# The first of these columns that exists holds the images: encoded, in the field "bytes" of a struct as in data sets of
# Hugging Face, or as paths and URLs.
COLUMNS = ("image", "bytes", "path", "url")
# Images of one shard may take gigabytes, so only this many are in memory.
_ROWS_A_READ = 32


@dataclass(frozen=True)
class ParquetTable:
    """One Parquet file."""

    name: str  # its absolute path, or its URL
    rows: int  # number of rows
    column: str  # name of the column with the images
    names_them: bool  # True if that column holds their names, False if the images themselves


def describe_table(name: str) -> ParquetTable:
    """Return the description of a Parquet file from its footer.

    Raises:
        DataError: it is not a Parquet file, or has no column of images.
    """
    with _open(name) as file:
        types = import_arrow("types")
        fields = {field.name: field.type for field in file.schema_arrow}
        kinds = {"names": (types.is_string, types.is_large_string), "images": (types.is_binary, types.is_large_binary)}
        for column in COLUMNS:
            if column not in fields:
                continue
            kind = fields[column]
            if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            for what, tests in kinds.items():
                if any(test(kind) for test in tests):
                    return ParquetTable(name, file.metadata.num_rows, column, what == "names")
        raise DataError(
            f"{name} has no column of images; its columns are {some(fields)}. Name one {', '.join(COLUMNS)}; it holds "
            "encoded images (binary, or a struct with the field bytes) or paths (text)"
        )


def read_cells(table: ParquetTable, start: int = 0, stop: int | None = None) -> Iterator[bytes | str | None]:
    """Yield the cells of the image column in rows `start` to `stop` - 1; None for an empty cell.

    Raises:
        DataError: it cannot be read as Parquet.
    """
    stop = table.rows if stop is None else stop
    with _open(table.name) as file:
        groups, before, first = [], 0, 0
        for group in range(file.metadata.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            if after <= start:
                before = after
            elif first < stop:
                groups.append(group)
            first = after
        batches = file.iter_batches(_ROWS_A_READ, row_groups=groups, columns=[table.column])
        cells = (cell for batch in batches for cell in batch.column(0).to_pylist())
        for cell in islice(cells, start - before, stop - before):
            yield cell["bytes"] if isinstance(cell, dict) else cell


@contextlib.contextmanager
def _open(name: str) -> Iterator[Any]:
    parquet, lib = import_arrow("parquet"), import_arrow("lib")
    with contextlib.ExitStack() as stack:
        try:
            source = name
            if is_url(name):
                filesystem, path = open_url(name)
                source = stack.enter_context(filesystem.open_input_file(path))
            # Without pre_buffer, which reads whole groups of rows ahead.
            file = parquet.ParquetFile(source, pre_buffer=False)
        except (lib.ArrowInvalid, OSError) as error:
            cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            raise DataError(f"cannot read {name} as Parquet: {cause}") from error
        yield stack.enter_context(file)
