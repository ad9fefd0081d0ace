"""Full disks, disks that cannot be written, and folders that this user may not touch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from places import BOUND_BY_MODES, TINY, check_exports, remount, run, small_disk
from training_run import make_images

from edgecls.training.run.run_folder import load_model, read_whole_record

pytestmark = pytest.mark.faults
EXPORT = ("--format", "tflite", "--max-drop", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    out = data.parent / "run"
    assert run("train", data, "--out", out, *TINY)[0] == 0
    return out


@pytest.mark.parametrize("size_kb", [8, 40, 120, 260])
def test_train_on_a_full_disk(data: Path, tmp_path: Path, size_kb: int) -> None:
    with small_disk(tmp_path / "disk", size_kb) as disk:
        status, errors = run("train", data, "--out", disk / "run", *TINY)
        assert status in (1, 2) and "No space left" in errors, errors
        assert not (disk / "run").exists()
        remount(disk, "size=64m")
        status, errors = run("train", data, "--out", disk / "run", *TINY, "--resume")
        assert status == 0, errors
        read_whole_record(disk / "run")
        load_model(disk / "run")
        assert [path.name for path in disk.iterdir()] == ["run"]


@pytest.mark.parametrize("room_kb", [0, 4, 12])
def test_export_on_a_full_disk(trained: Path, tmp_path: Path, room_kb: int) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        out = disk / "export"
        assert run("export", trained, *EXPORT, "--out", out)[0] == 0
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        used = shutil.disk_usage(disk).used // 1024
        remount(disk, f"size={used + room_kb}k")
        status, errors = run("export", trained, *EXPORT, "--fp32", "--int8", "--out", out)
        assert status == 1 and "No space left" in errors, errors
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        remount(disk, "size=64m")
        status, errors = run("export", trained, *EXPORT, "--fp32", "--int8", "--out", out)
        assert status == 0, errors
        check_exports(out)


def test_a_disk_that_cannot_be_written(data: Path, trained: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        shutil.copytree(trained, disk / "run")
        assert run("export", disk / "run", *EXPORT)[0] == 0
        remount(disk, "ro")
        for arguments in (
            ("train", data, "--out", disk / "new", *TINY),
            ("train", data, "--out", disk / "run", "--overwrite", *TINY),
            ("export", disk / "run", *EXPORT),
            ("report", disk / "run"),
            ("demo", "--out", disk / "demo"),
        ):
            status, errors = run(*arguments)
            assert status in (1, 2) and "Read-only file system" in errors, (arguments, errors)
        model, image = disk / "run" / "export" / "model-fp32.tflite", next(data.glob("*/*.png"))
        assert run("predict", model, image)[0] == run("selftest", model)[0] == 0
        check_exports(disk / "run" / "export")


def test_what_this_user_may_not_touch(data: Path, trained: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    shutil.copytree(trained, locked / "run")
    secret = Path(shutil.copytree(data, tmp_path / "secret"))
    next(secret.glob("*/*.png")).chmod(0)
    (locked / "run" / "run.json").chmod(0)
    (locked / "run" / "model.keras").chmod(0)
    locked.chmod(0o555)
    (locked / "run").chmod(0o555)
    for arguments in (
        ("train", data, "--out", locked / "new", *TINY),
        ("train", secret, "--out", tmp_path / "new", *TINY),
        ("export", locked / "run", *EXPORT),
        ("report", locked / "run"),
        ("info", locked / "run" / "model.keras"),
        ("predict", locked / "run" / "model.keras", next(data.glob("*/*.png"))),
    ):
        status, errors = run(*arguments, before=BOUND_BY_MODES)
        denied = "Permission denied" in errors or "is not readable" in errors
        assert status in (1, 2) and denied, (arguments, errors)
    assert not (tmp_path / "new").exists()
