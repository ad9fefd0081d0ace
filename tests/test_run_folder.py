from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecls.errors import ConfigError
from edgecls.training.run_folder import check_out, new_run, read_record, write_record

RECORD: dict[str, Any] = dict.fromkeys(("config", "classes", "weights", "metrics", "data", "split", "held_out"), {})


def fill(folder: Path, note: str) -> None:
    write_record(folder, {**RECORD, "note": note})
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_bytes(b"picture")


def make_run(out: Path, note: str = "old") -> Path:
    with new_run(out) as folder:
        fill(folder, note)
    return out


# Written whole or not at all


def test_a_new_run_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "run"
    with new_run(out) as folder:
        assert not any(folder.iterdir()) and folder.parent == out.parent
        fill(folder, "new")
        assert not out.exists()
    assert read_record(out)["note"] == "new" and (out / "plots" / "a.png").read_bytes() == b"picture"
    assert out.stat().st_mode & 0o777 == 0o755
    assert list(out.parent.iterdir()) == [out]


def test_an_old_run_is_replaced_whole_and_only_at_the_end(tmp_path: Path) -> None:
    out = make_run(tmp_path / "run")
    (out / "export").mkdir()
    with new_run(out) as folder:
        fill(folder, "new")
        assert read_record(out)["note"] == "old"
    assert read_record(out)["note"] == "new" and not (out / "export").exists()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("old", [False, True])
def test_an_error_leaves_nothing_behind_and_the_old_run_as_it_was(
    tmp_path: Path, kind: type[BaseException], old: bool
) -> None:
    out = tmp_path / "run"
    if old:
        make_run(out)
    with pytest.raises(kind, match="stop"), new_run(out) as folder:
        fill(folder, "new")
        raise kind("stop")
    assert list(tmp_path.iterdir()) == ([out] if old else [])
    if old:
        assert read_record(out)["note"] == "old"


def test_a_failure_at_the_very_end_keeps_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = make_run(tmp_path / "run")
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if ".partial-" in self.name and "-old" not in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with pytest.raises(OSError, match="No space"), new_run(out) as folder:
        fill(folder, "new")
        monkeypatch.setattr(Path, "rename", refuse_new)
    assert list(tmp_path.iterdir()) == [out] and read_record(out)["note"] == "old"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    check_out(out)
    assert read_record(make_run(out))["note"] == "old"


def test_a_link_to_a_run_stays_and_its_run_is_replaced(tmp_path: Path) -> None:
    run, link = make_run(tmp_path / "run"), tmp_path / "link"
    link.symlink_to(run)
    check_out(link, overwrite=True)
    make_run(link, "new")
    assert link.is_symlink() and read_record(run)["note"] == "new"
    assert sorted(tmp_path.iterdir()) == [link, run]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*file: .*; give --out a folder that you may write"):
        make_run(tmp_path / "file" / "run")
    assert (tmp_path / "file").is_file()


# Checked before the work


def test_a_new_name_may_be_written_and_is_not_made_yet(tmp_path: Path) -> None:
    check_out(tmp_path / "deep" / "run")
    assert not any(tmp_path.iterdir())


def test_an_existing_run_needs_overwrite(tmp_path: Path) -> None:
    out = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run already holds a run; give --out another folder, or --overwrite"):
        check_out(out)
    check_out(out, overwrite=True)
    assert read_record(out)["note"] == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    foreign, file, link = tmp_path / "foreign", tmp_path / "file", tmp_path / "link"
    (foreign / "photos").mkdir(parents=True)
    file.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="foreign is a folder with other files in it; give --out a new folder"):
        check_out(foreign, overwrite=overwrite)
    for path in (file, link):
        with pytest.raises(ConfigError, match=f"{path.name} exists and is not a folder; give --out a new folder"):
            check_out(path, overwrite=overwrite)


@pytest.mark.parametrize("inside", [".", "deep"])
def test_the_folder_one_stands_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    out = tmp_path / "run"
    (out / inside).mkdir(parents=True)
    if inside == "deep":
        write_record(out, RECORD)
    monkeypatch.chdir(out / inside)
    for path in (out, Path() if inside == "." else Path("..")):
        with pytest.raises(ConfigError, match="the current folder .* would be replaced; give --out a new folder"):
            check_out(path, overwrite=True)
