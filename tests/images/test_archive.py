from __future__ import annotations

import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny import make_data

from edgecls.errors import DataError
from edgecls.images.archive import exists, find_archive, is_folder, read_bytes, read_member
from edgecls.images.dataset import Dataset, load_dataset, load_paths
from edgecls.images.decode import load_gray
from edgecls.images.folders import check_root
from edgecls.images.leftovers import LeftOut
from edgecls.images.walk import walk_images

FORMS = {"zip": "", "tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def pack(folder: Path, archive: Path, top: str = "") -> Path:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [f"{top}{path.relative_to(folder).as_posix()}" for path in files]
    form = archive.name.partition(".")[2]
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for path, name in zip(files, names, strict=True):
                opened.write(path, name)
        return archive
    with tarfile.open(archive, FORMS[form]) as opened:  # type: ignore[call-overload]
        for path, name in zip(files, names, strict=True):
            opened.add(path, f"./{name}")
    return archive


def load(data: Path) -> Dataset:
    return load_dataset(data, 32, val_fraction=0.2, test_fraction=0.2, seed=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_as_from_the_folder(tmp_path: Path, form: str) -> None:
    folder = make_data(tmp_path / "images", 6)
    packed, plain = load(pack(folder, tmp_path / f"photos.{form}")), load(folder)
    assert packed.root == tmp_path / f"photos.{form}" and packed.classes == plain.classes
    for part in ("train", "val", "test"):
        one, other = getattr(packed, part), getattr(plain, part)
        assert one.paths == other.paths and np.array_equal(one.images, other.images)
    again = load_paths(packed.root, packed.val.paths, packed.val.labels.tolist(), 32, 32)
    assert np.array_equal(again.images, packed.val.images)


def test_one_folder_that_holds_everything_is_entered(tmp_path: Path) -> None:
    folder = make_data(tmp_path / "images", 6)
    data = load(pack(folder, tmp_path / "photos.zip", "my photos/"))
    assert data.root == tmp_path / "photos.zip/my photos" and data.classes == load(folder).classes
    # A lone train/ is a split.
    assert check_root(pack(folder, tmp_path / "split.zip", "train/")) == tmp_path / "split.zip"


def test_paths_into_archives(tmp_path: Path) -> None:
    data = pack(make_data(tmp_path / "images", 1), tmp_path / "photos.zip")
    image = next(walk_images(data, LeftOut()))
    assert find_archive(image) == (data, image.relative_to(data).as_posix())
    assert exists(image) and not exists(data / "gone.png") and is_folder(image.parent) and not is_folder(image)
    original = tmp_path / "images" / image.relative_to(data)
    assert read_member(image) == original.read_bytes() and read_member(original) is None
    assert np.array_equal(load_gray(image, 9, 9), load_gray(original, 9, 9))
    with pytest.raises(DataError, match=r"has no file 'gone\.png'"):
        load_gray(data / "gone.png", 9, 9)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_many_threads_read_one_archive(tmp_path: Path, form: str) -> None:
    data = pack(make_data(tmp_path / "images", 20), tmp_path / f"photos.{form}")
    paths = list(walk_images(data, LeftOut())) * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: load_gray(path, 32, 32).tobytes(), paths))
    assert found == [load_gray(tmp_path / "images" / path.relative_to(data), 32, 32).tobytes() for path in paths]


def test_what_systems_leave_in_archives_and_links_are_left_out(tmp_path: Path) -> None:
    data = tmp_path / "photos.tar"
    with tarfile.open(data, "w") as opened:
        for name in ("cat/1.png", "__MACOSX/cat/._1.png", "cat/.DS_Store", "../outside.png", "/etc/absolute.png"):
            opened.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
        link.name, link.type, link.linkname = "cat/same.png", tarfile.LNKTYPE, "cat/1.png"
        opened.addfile(link)
    for place in (data, data / "cat"):
        left_out = LeftOut()
        found = [path.relative_to(data).as_posix() for path in walk_images(place, left_out)]
        assert found == ["cat/1.png", "cat/same.png", "etc/absolute.png"][: 3 if place == data else 2]
        assert "1 links in an archive" in str(left_out)
        assert ("1 in __MACOSX" in str(left_out)) == (place == data)
        assert ("1 outside of their archive (../)" in str(left_out)) == (place == data)
    assert read_bytes(data / "cat/same.png") == read_bytes(data / "cat/1.png")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_the_last_of_two_files_of_one_name_is_read_and_the_other_counted(form: str, tmp_path: Path) -> None:
    data = tmp_path / f"photos.{form}"
    for content in ("old", "new"):
        (tmp_path / content).write_text(content)
    with zipfile.ZipFile(data, "w") if form == "zip" else tarfile.open(data, "w") as opened:
        add = opened.write if isinstance(opened, zipfile.ZipFile) else opened.add
        for content, name in (("old", "cat/1.png"), ("new", "./cat/1.png"), ("old", "../cat/2.png")):
            add(tmp_path / content, name)
    left_out = LeftOut()
    assert list(walk_images(data, left_out)) == [data / "cat/1.png"]
    assert read_bytes(data / "cat/1.png") == b"new"
    assert "1 stored again later in their archive" in str(left_out)
    assert "1 outside of their archive (../)" in str(left_out)


def test_results_of_edgecls_in_an_archive_are_no_class(tmp_path: Path) -> None:
    data = tmp_path / "photos.zip"
    with zipfile.ZipFile(data, "w") as opened:
        for name in ("cat/1.png", "run/run.json", "run/model.keras", "run/plots/curves.png"):
            opened.writestr(name, b"")
    left_out = LeftOut()
    assert [path.relative_to(data).as_posix() for path in walk_images(data, left_out)] == ["cat/1.png"]
    assert "3 in run (results of edgecls)" in str(left_out)


def test_damaged_and_encrypted_archives_are_refused(tmp_path: Path) -> None:
    data = pack(make_data(tmp_path / "images", 3), tmp_path / "photos.zip")
    image, content = next(walk_images(data, LeftOut())), bytearray(data.read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(DataError, match="unpack it yourself"):
        load_gray(tmp_path / "damaged.zip" / image.relative_to(data), 9, 9)
    (tmp_path / "cut.zip").write_bytes(data.read_bytes()[:-40])
    (tmp_path / "cut.tar.gz").write_bytes(pack(tmp_path / "images", tmp_path / "a.tar.gz").read_bytes()[:-400])
    for name in ("cut.zip", "cut.tar.gz"):
        with pytest.raises(DataError, match="cannot read the archive"):
            load(tmp_path / name)
    flags = bytearray(data.read_bytes())
    flags[6] |= 1  # of the first member: encrypted
    central = flags.index(b"PK\x01\x02")
    flags[central + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(flags)
    with pytest.raises(DataError, match="encrypted"):
        load_gray(tmp_path / "locked.zip" / image.relative_to(data), 9, 9)
