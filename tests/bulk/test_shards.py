"""Which images a source stands for, and their cut into shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.bulk import shards as shards_module
from edgecls.bulk.shards import Shard, cut, cut_names, open_images
from edgecls.errors import DataError
from edgecls.images.find import find_images
from edgecls.images.leftovers import LeftOut

NAMES = ["b.png", "a.JPG", "c/z.png", "c/y.bmp", "a.png", "d/e/f.webp", "notes.md", ".hidden.png", ".h/x.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my photos"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names_of(shards: Iterator[Shard]) -> list[str]:
    return [name for shard in shards for name in shard.names]


@given(st.integers(0, 50), st.integers(1, 60))
def test_a_cut_loses_and_repeats_nothing(count: int, images: int) -> None:
    names = [f"{number}.png" for number in range(count)]
    shards = list(cut_names(names, images))
    assert names_of(iter(shards)) == names
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(len(shard.names) == images for shard in shards[:-1]) and all(shard.names for shard in shards)


def test_a_folder_and_its_url_have_the_same_images_in_the_same_order(folder: Path) -> None:
    expected = [str(folder / name) for name in ("a.JPG", "a.png", "b.png", "c/y.bmp", "c/z.png", "d/e/f.webp")]
    assert names_of(cut([str(folder)])) == [str(path) for path in find_images(folder)] == expected
    url = folder.as_uri()
    assert "my%20photos" in url
    assert names_of(cut([url])) == [Path(path).as_uri() for path in expected]
    assert names_of(cut([url + "/"])) == [Path(path).as_uri() for path in expected]


def test_sources_come_in_the_order_given_and_what_is_missing_stays(folder: Path) -> None:
    sources = [str(folder / "c"), str(folder / "none.png"), (folder / "none").as_uri(), str(folder / "*.png")]
    names = names_of(cut(sources, 2))
    assert [name.rpartition("/")[2] for name in names] == ["y.bmp", "z.png", "none.png", "none", "a.png", "b.png"]


def test_a_shard_is_there_before_the_rest_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def endless(path: Path, left_out: object) -> Iterator[Path]:
        nonlocal read
        for read in itertools.count(1):
            yield Path(f"{read}.png")

    monkeypatch.setattr(shards_module, "find_images", endless)
    assert len(next(cut(["photos"], 1000)).names) == 1000
    assert read == 1000


@pytest.mark.parametrize("as_url", [True, False])
def test_a_list_has_a_path_or_url_a_line(folder: Path, as_url: bool) -> None:
    path = folder / "which.txt"
    path.write_bytes(b"a.png\r\n\n  \ns3://bucket/b c.png\nlast.png")
    names = names_of(cut([path.as_uri() if as_url else str(path)]))
    assert names == ["a.png", "s3://bucket/b c.png", "last.png"]


def test_what_a_folder_holds_besides_is_counted(folder: Path) -> None:
    for source in (str(folder), folder.as_uri()):
        left_out = LeftOut()
        list(cut([source], left_out=left_out))
        assert str(left_out).startswith("Left out 3 files: 2 hidden files, 1 *.md (")


@pytest.mark.parametrize("name", ["none.txt", "file:///none.txt", "none.parquet", "file:///none.parquet"])
def test_a_list_or_table_that_is_missing_ends_it(name: str) -> None:
    with pytest.raises(DataError, match=r"cannot (read|open).*none"):
        list(cut([name]))


def write_table(path: Path, column: str, values: list[object], rows_a_group: int = 3) -> Path:
    pq.write_table(pa.table({"id": list(range(len(values))), column: values}), path, row_group_size=rows_a_group)
    return path


@pytest.mark.parametrize("kind", ["bytes", "struct"])
@pytest.mark.parametrize("as_url", [True, False])
def test_a_table_of_images_is_cut_by_rows(tmp_path: Path, kind: str, as_url: bool) -> None:
    cells: list[object] = [b"a%d" % row for row in range(7)]
    cells[4] = None
    values: list[object] = [{"bytes": cell, "path": "x"} if kind == "struct" else cell for cell in cells]
    path = write_table(tmp_path / "t.parquet", "image", values)
    name = path.as_uri() if as_url else str(path)
    plain = tmp_path / "a.png"
    shards = list(cut([str(plain), name, name, str(plain)], 5))
    # None of them has rows of a table and anything else.
    assert [len(shard.names) for shard in shards] == [1, 5, 2, 5, 2, 1]
    assert shards[2].names == (f"{name}#5", f"{name}#6")
    found = [pair for shard in shards[1:3] for pair in open_images(shard, tmp_path)]
    assert found == [(f"{name}#{row}", cell) for row, cell in enumerate(cells)]


def test_a_table_of_paths_is_a_list(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", "path", ["a.png", "s3://b/c.png"])
    assert names_of(cut([str(path)])) == ["a.png", "s3://b/c.png"]
    write_table(path, "path", ["a.png", None])
    with pytest.raises(DataError, match="row 1 of .* is empty"):
        list(cut([str(path)]))


def test_a_folder_of_tables_is_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "set.parquet"
    folder.mkdir()
    for part in (1, 0):
        write_table(folder / f"part-{part}.parquet", "bytes", [b"x"] * (part + 1))
    expected = [f"{folder}/part-0.parquet#0", f"{folder}/part-1.parquet#0", f"{folder}/part-1.parquet#1"]
    assert names_of(cut([str(folder)])) == expected
    assert len(names_of(cut([folder.as_uri()]))) == 3


def test_paths_are_relative_to_the_folder_and_urls_stay() -> None:
    shard = Shard(0, ("a.png", "/b.png", "s3://bucket/c.png"))
    folder = Path("/photos")
    assert [source for _, source in open_images(shard, folder)] == [
        Path("/photos/a.png"),
        Path("/b.png"),
        "s3://bucket/c.png",
    ]
    assert str(shard) == "shard 0 (a.png to s3://bucket/c.png)"
