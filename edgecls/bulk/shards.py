"""List images in a fixed order and cut the list into shards.

The list is a stream: work begins before all of it is read, and it takes no more memory than a shard and a folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgecls.bulk import storage, tables
from edgecls.bulk.lists import read_list
from edgecls.bulk.tables import Table
from edgecls.errors import DataError
from edgecls.images.decode import Source
from edgecls.images.find import find_images
from edgecls.images.leftovers import LeftOut
from edgecls.limits import SHARD_IMAGES

LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Shard:
    """Images that one job works on.

    Attributes:
        number: 0, 1, 2 ...
        names: of the images in the result: paths, URLs, or TABLE#ROW.
        table: holds the images; None if the names are paths or URLs.
        start: row of the first image.
        wanted: positions in `names` of the images to work on; None for all.
    """

    number: int
    names: tuple[str, ...] = field(repr=False)
    table: Table | None = field(default=None, repr=False)
    start: int = 0
    wanted: frozenset[int] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return its name in errors."""
        return f"shard {self.number} ({self.names[0]} to {self.names[-1]})"


def cut(sources: Iterable[str], images: int = SHARD_IMAGES, left_out: LeftOut | None = None) -> Iterator[Shard]:
    """Yield the images of the sources, `images` at a time.

    Args:
        sources: files, folders, patterns and URLs of either; lists, one path or URL a line, that end in .txt; tables
            that end in .parquet, or folders of them that do.
        images: of a shard; the last one, and the last of each table, may have fewer.
        left_out: counts the files of folders that are no images.

    Raises:
        DataError: a folder, list or table cannot be read. StorageError: a storage does not answer.
        MissingDependency: a URL or table needs pyarrow.
    """
    for number, (names, table, start) in enumerate(_cut_all(sources, images, left_out or LeftOut())):
        yield Shard(number, names, table, start)


def cut_names(names: Iterable[str], images: int = SHARD_IMAGES) -> Iterator[Shard]:
    """Yield these images, `images` at a time."""
    left = iter(names)
    for number in itertools.count():
        chosen = tuple(itertools.islice(left, images))
        if not chosen:
            return
        yield Shard(number, chosen)


def _cut_all(
    sources: Iterable[str], images: int, left_out: LeftOut
) -> Iterator[tuple[tuple[str, ...], Table | None, int]]:
    """Yield names, table and first row of each shard; a shard reads from one table only."""
    names: list[str] = []
    for item in _find(sources, left_out):
        if isinstance(item, str):
            names.append(item)
        if names and (len(names) == images or not isinstance(item, str)):
            yield tuple(names), None, 0
            names = []
        if isinstance(item, Table):
            for start in range(0, item.rows, images):
                rows = range(start, min(start + images, item.rows))
                yield tuple(f"{item.name}#{row}" for row in rows), item, start
    if names:
        yield tuple(names), None, 0


def open_images(shard: Shard, folder: Path) -> Iterator[tuple[str, Source | None]]:
    """Yield the name and source of each wanted image: a path, a URL, or its bytes; None for an empty cell.

    Args:
        shard: of `cut`.
        folder: that relative paths start from.

    Raises:
        DataError: the table cannot be read.
    """
    sources: Iterable[Source | None]
    if shard.table is None:
        sources = (name if storage.is_url(name) else folder / name for name in shard.names)
    else:
        sources = tables.read_cells(shard.table, shard.start, shard.start + len(shard.names))
    # A table that lost rows since then gives too few.
    for place, image in enumerate(itertools.zip_longest(shard.names, sources)):
        if shard.wanted is None or place in shard.wanted:
            yield image


def _find(sources: Iterable[str], left_out: LeftOut) -> Iterator[str | Table]:
    for source in sources:
        if storage.is_url(source):
            wanted = _is_table if _is_table(source) else None
            for url in storage.list_files(source, left_out, wanted):
                yield from _open(url)
        else:
            for path in find_images(Path(source), left_out):
                yield from _open(str(path))


def _is_table(name: str) -> bool:
    return _has_suffix(name, tables.SUFFIX)


def _has_suffix(name: str, suffix: str) -> bool:
    # The query of a URL comes after the path.
    return name.partition("?")[0].rstrip("/").lower().endswith(suffix)


def _open(name: str) -> Iterator[str | Table]:
    """Yield the contents of a list or a table, else the file's name."""
    if _has_suffix(name, LIST_SUFFIX):
        yield from read_list(name)
    elif not _is_table(name):
        yield name
    elif not storage.is_url(name) and Path(name).is_dir():
        for part in sorted(Path(name).glob(f"*{tables.SUFFIX}")):
            yield from _open(str(part))
    else:
        table = tables.describe_table(name if storage.is_url(name) else str(Path(name).absolute()))
        if not table.names_them:
            yield table
            return
        for row, cell in enumerate(tables.read_cells(table)):
            if not cell:
                raise DataError(f"row {row} of {name} is empty. Fill or remove it")
            yield str(cell)
