from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zipfile
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.demo import unpack_demo_data
from edgecls.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "build_demo_data.py"
SOURCE = Path("/usr/share/datasets/fashion-mnist")
PACKAGED = ROOT / "edgecls" / "demo_data" / "fashion-mnist.zip"
CLASSES = {"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_demo_data(tmp_path_factory.mktemp("demo") / "new" / "images")


@pytest.mark.parametrize(("part", "count"), [("train", 120), ("test", 40)])
def test_every_class_has_its_images(unpacked: Path, part: str, count: int) -> None:
    counts = {folder.name: len(list(folder.glob("*.png"))) for folder in (unpacked / part).iterdir()}
    assert counts == dict.fromkeys(CLASSES, count)


def test_every_image_is_gray_28_by_28_and_no_two_are_the_same(unpacked: Path) -> None:
    seen = set()
    for path in unpacked.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
            seen.add(image.tobytes())
    assert len(seen) == 1600


def test_zip_is_small_and_is_what_the_package_opens() -> None:
    assert PACKAGED.stat().st_size < 1_000_000
    assert resources.files("edgecls").joinpath("demo_data/fashion-mnist.zip").read_bytes() == PACKAGED.read_bytes()


def test_license_and_source_are_beside_the_images() -> None:
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in (PACKAGED.parent / "LICENSE").read_text()
    assert "arXiv:1708.07747" in (PACKAGED.parent / "README.md").read_text()


def test_complete_folder_is_left_as_it_is(unpacked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}
    assert unpack_demo_data(unpacked) == unpacked
    assert {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")} == before


def test_empty_folder_is_filled_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    unpack_demo_data(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert (folder / "train" / "bag").is_dir()


def test_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(
        DataError, match=r"cannot unpack.*/images': Directory not empty; name a new or an empty folder$"
    ):
        unpack_demo_data(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["images", "mine.txt"]


def test_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = unpack_demo_data(tmp_path / "images")
    next(folder.rglob("*.png")).write_bytes(b"cut")
    with pytest.raises(DataError, match="cannot unpack"):
        unpack_demo_data(folder)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="cannot unpack"):
        unpack_demo_data(tmp_path / "file")


@pytest.mark.skipif(not SOURCE.is_dir(), reason=f"Debian's dataset-fashion-mnist is not installed at {SOURCE}")
def test_script_reproduces_the_zip(tmp_path: Path) -> None:
    target = tmp_path / "again.zip"
    subprocess.run([sys.executable, SCRIPT, "--target", target], check=True)
    # zlib-ng finds other matches than zlib, so only the pixels can be compared there.
    if "ng" not in zlib.ZLIB_RUNTIME_VERSION:
        assert target.read_bytes() == PACKAGED.read_bytes()
    assert read_pixels(target) == read_pixels(PACKAGED)


@pytest.mark.skipif(not SOURCE.is_dir(), reason=f"Debian's dataset-fashion-mnist is not installed at {SOURCE}")
def test_images_are_those_of_the_official_set_under_their_label() -> None:
    labels = gzip.decompress((SOURCE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = gzip.decompress((SOURCE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
    # Ankle boots are label 9 in the table of the data set's own README, trousers label 1.
    for name, label in (("ankle-boot", 9), ("trouser", 1)):
        chosen = {path: data for path, data in read_pixels(PACKAGED).items() if path.startswith(f"test/{name}/")}
        assert len(chosen) == 40
        for path, data in chosen.items():
            assert labels[int(Path(path).stem)] == label
            assert data == images[int(Path(path).stem)].tobytes()


def read_pixels(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: Image.open(io.BytesIO(archive.read(name))).tobytes() for name in archive.namelist()}
