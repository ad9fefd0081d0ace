"""List images in a fixed order, cut the list into shards, and decode those.

The list is a stream: work begins before all of it is read, and it takes no more memory than a shard and a folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.cpus import default_threads
from edgecls.bulk import storage, tables
from edgecls.bulk.lists import read_list
from edgecls.bulk.tables import ParquetTable
from edgecls.errors import DataError
from edgecls.images.decode import Source, load_gray
from edgecls.images.depth import Scale, warn_of_nearly_black
from edgecls.images.find import find_images
from edgecls.images.leftovers import LeftOut
from edgecls.limits import SHARD_IMAGES
from edgecls.model_file.metadata import ModelSpec
from edgecls.runtime.read_ahead import map_ahead

LIST_SUFFIX = ".txt"
# A file of a bucket takes tens of milliseconds to arrive and almost no CPU time.
URL_READERS = 16


@dataclass(frozen=True)
class Shard:
    """Images that one job works on.

    Attributes:
        wanted: positions in `names` of the images to work on; None for all.
    """

    number: int  # 0, 1, 2 and so on
    names: tuple[str, ...] = field(repr=False)  # of the images in the result: paths, URLs, or TABLE#ROW
    table: ParquetTable | None = field(
        default=None, repr=False
    )  # holds the images; None if the names are paths or URLs
    start: int = 0  # row of the first image
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
) -> Iterator[tuple[tuple[str, ...], ParquetTable | None, int]]:
    """Yield names, table and first row of each shard; a shard reads from one table only."""
    names: list[str] = []
    for item in _find(sources, left_out):
        if isinstance(item, str):
            names.append(item)
        if names and (len(names) == images or not isinstance(item, str)):
            yield tuple(names), None, 0
            names = []
        if isinstance(item, ParquetTable):
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


def _find(sources: Iterable[str], left_out: LeftOut) -> Iterator[str | ParquetTable]:
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


def _open(name: str) -> Iterator[str | ParquetTable]:
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


def decode_shard(
    shard: Shard, spec: ModelSpec, folder: Path, threads: int | None
) -> Iterator[tuple[str, NDArray[np.uint8] | DataError]]:
    """Yield the name of each image and its pixels, uint8 (H, W, 1), 0..255, or why there are none.

    Args:
        shard: of `shards.cut`.
        spec: whose height and width they get.
        folder: that relative paths start from.
        threads: 1 reads paths in the caller's thread, more read ahead. None takes `threads.default_threads()`.

    Raises:
        DataError: the table of the shard cannot be read. StorageError: a storage does not answer.
    """

    def decode(image: tuple[str, Source | None]) -> NDArray[np.uint8] | DataError:
        name, source = image
        try:
            if source is None:
                raise DataError(f"{name} is empty; fill or remove it")
            if isinstance(source, str):
                source = storage.read_file(source)
            scales: list[Scale] = []
            pixels = load_gray(source, spec.height, spec.width, spec.preprocessing, scales)
            warn_of_nearly_black(scales)
            return pixels
        except DataError as error:
            return error

    readers = default_threads() if threads is None else threads
    if shard.table is None and any(map(storage.is_url, shard.names)):
        readers = URL_READERS
    images = open_images(shard, folder)
    # One thread does not read ahead: a worker with one CPU uses one.
    found = ((image, decode(image)) for image in images) if readers == 1 else map_ahead(decode, images, readers)
    for (name, _), pixels in found:
        yield name, pixels
