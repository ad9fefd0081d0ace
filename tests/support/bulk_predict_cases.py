"""What several test files share of bulk_predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from edgecls.bulk.model import pack_model
from edgecls.bulk.predict import Done, predict_all
from edgecls.parallel.pool import LocalPool, Pool


class Spy:
    """A pool that notes what it was given; it may be cut off, and do something else than it was asked."""

    def __init__(self, pool: Pool, last: int | None = None, function: Any = None, shared: Any = None) -> None:
        self.threads = pool.threads
        self.jobs: list[Any] = []
        self._pool, self._last, self._function, self._shared = pool, last, function, shared

    def map(
        self, function: Callable[[Any, Any], Any], shared: Any, jobs: Iterable[Any], *, in_order: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        more = () if self._shared is None else (shared, *self._shared)
        for job, result in self._pool.map(self._function or function, more or shared, jobs, in_order=in_order):
            self.jobs.append(job.number)
            yield job, result
            if len(self.jobs) == self._last:
                raise KeyboardInterrupt


def copy_photos(tiny_data: Path, root: Path) -> Path:
    shutil.copytree(tiny_data, root)
    (root / "dark" / "09b.png").write_bytes(b"no image")
    return root


def predict(file: Path, sources: list[Any], out: Path, pool: Pool | None = None, **options: Any) -> Done:
    pool = pool or LocalPool()
    options.setdefault("shard_images", 5)
    return predict_all(pack_model(file.read_bytes(), pool), [*map(str, sources)], out, pool, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of all files of the manifest, in its order."""
    listed = json.loads((folder / "manifest.json").read_text())["shards"]
    return [json.loads(line) for each in listed for line in (folder / each["file"]).read_text().splitlines()]


def make_sources(photos: Path, folder: Path) -> dict[str, list[Any]]:
    """Return the same images as a folder, a list, a table and a URL."""
    paths = sorted(photos.rglob("*.*"))
    (folder / "list.txt").write_text("\n".join(map(str, paths)))
    cells: list[bytes | None] = [path.read_bytes() for path in paths]
    cells[7] = None
    pq.write_table(pa.table({"image": cells}), folder / "table.parquet", row_group_size=10)
    return {
        "folder": [photos],
        "list": [folder / "list.txt"],
        "table": [folder / "table.parquet"],
        "url": [photos.as_uri()],
    }
