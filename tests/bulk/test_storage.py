"""Files behind URLs: file:// through pyarrow, memory:// through fsspec. Buckets take the same calls."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import fsspec
import pytest

from edgecls.bulk import storage
from edgecls.bulk.storage import is_url, list_files, open_stream, read_file
from edgecls.errors import ConfigError, DataError, MissingDependency, StorageError
from edgecls.images.leftovers import LeftOut

ODD = "50% Mutter ä #1?.png"

# What `train` writes.
RUN = tuple((f"run/{name}", b"1") for name in ("run.json", "model.keras", "plots/curves.png"))


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a folder with a few files."""
    base = tmp_path.as_uri() if request.param == "file" else f"memory://{request.node.name.partition('[')[0]}"
    filesystem = fsspec.filesystem(request.param)
    for name in (ODD, "b.png", "sub/c.png", ".hidden/d.png", "sub/.e.png", "words.txt"):
        path = f"{tmp_path}/{name}" if request.param == "file" else f"/{base.removeprefix('memory://')}/{name}"
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, name.encode())
    return base


def test_what_is_listed_can_be_read(root: str) -> None:
    left_out = LeftOut()
    urls = list(list_files(root, left_out))
    assert str(left_out).startswith("Left out 3 files: 2 hidden files, 1 *.txt")
    assert [read_file(url).decode() for url in urls] == [ODD, "b.png", "sub/c.png"]
    assert all(url.startswith(f"{root}/") and "?" not in url and "#" not in url for url in urls)
    assert open_stream(f"{root}/words.txt").read() == b"words.txt"


def test_files_are_images_by_their_first_bytes_too(root: str) -> None:
    filesystem, path = storage.open_url(root)
    for name, data in (
        ("x", b"\x89PNG\r\n\x1a\n"),
        ("y", b"GIF89a"),
        ("@eaDir/b.png", b"1"),
        ("t.parquet", b"1"),
        *RUN,
    ):
        filesystem.create_dir(f"{path}/{name}".rpartition("/")[0])
        with filesystem.open_output_stream(f"{path}/{name}") as file:
            file.write(data)
    left_out = LeftOut()
    assert [url.rpartition("/")[2] for url in list_files(root, left_out)][1:] == ["b.png", "x", "c.png"]
    assert "3 in run (results of edgecls)" in str(left_out)
    assert "1 in @eaDir (" in str(left_out) and "1 without a suffix (" in str(left_out)
    assert [url.rpartition("/")[2] for url in list_files(root, LeftOut(), lambda name: name == "y")] == ["y"]


def test_what_is_not_there_is_a_bad_image(root: str) -> None:
    assert list(list_files(f"{root}/none", LeftOut())) == [f"{root}/none"]
    for url in (f"{root}/none", f"{root}/none/a.png", root):
        with pytest.raises(DataError, match="cannot open image .*: no such file; check the URL"):
            read_file(url)
    with pytest.raises(DataError, match=r"cannot open .*none.txt"):
        open_stream(f"{root}/none.txt")


def test_a_huge_file_is_not_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 4)
    with pytest.raises(DataError, match="has 5 bytes; at most 4 are read"):
        read_file(f"{root}/b.png")


def test_a_storage_that_does_not_answer_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    query = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    with pytest.raises(StorageError, match=r"(?s)cannot read s3://bucket/a.*connect.*run the same command again"):
        read_file(f"s3://bucket/a?{query}")


def test_unknown_kinds_of_url_are_wrong_usage() -> None:
    with pytest.raises(ConfigError, match="cannot open nosuch://bucket.*nosuch"):
        read_file("nosuch://bucket/a.png")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[ray\]'"):
        read_file("s3://bucket/a.png")
    real = importlib.util.find_spec
    monkeypatch.setattr(storage, "find_spec", lambda name: None if name == "fsspec" else real(name))
    with pytest.raises(MissingDependency, match=r"pip install fsspec"):
        read_file("other://bucket/a.png")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("s3://b/a.png", True), ("file:///a", True), ("a.png", False), ("a:b.png", False), ("/a://b", False), ("", False)],
)
def test_urls_are_reported_from_paths(name: str, expected: bool) -> None:
    assert is_url(name) is expected
