"""A run is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from work_runs import CHECKPOINT, RECORD, fill, make_run

from edgecls.errors import ConfigError
from edgecls.training.run import work_folder as work_folder_module
from edgecls.training.run.run_folder import read_record, write_record
from edgecls.training.run.work_folder import (
    FINISHED_FOLDER,
    LOCK_FILE,
    check_out,
    has_checkpoint,
    new_run,
    remove_checkpoints,
    work_folder,
)

# Written whole or not at all


def test_a_new_run_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "run"
    with new_run(out) as work:
        assert work == work_folder(out) == out.with_name("run.partial")
        assert {path.name for path in work.iterdir()} == {LOCK_FILE, FINISHED_FOLDER}
        assert not any((work / FINISHED_FOLDER).iterdir())
        fill(work, "new")
        assert not out.exists()
    assert read_record(out)["note"] == "new" and (out / "plots" / "a.png").read_bytes() == b"picture"
    assert {path.name for path in out.iterdir()} == {"run.json", "plots"}
    assert out.stat().st_mode & 0o777 == 0o755
    assert list(out.parent.iterdir()) == [out]


def test_an_old_run_is_replaced_whole_and_only_at_the_end(tmp_path: Path) -> None:
    out = make_run(tmp_path / "run")
    (out / "export").mkdir()
    with new_run(out) as work:
        fill(work, "new")
        assert read_record(out)["note"] == "old"
    assert read_record(out)["note"] == "new" and not (out / "export").exists()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_an_error_leaves_the_old_run_as_it_was_and_only_what_was_learned(
    tmp_path: Path, kind: type[BaseException], old: bool, learned: bool
) -> None:
    out = tmp_path / "run"
    if old:
        make_run(out)
    with pytest.raises(kind, match="stop"), new_run(out) as work:
        fill(work, "new")
        if not learned:
            remove_checkpoints(work)
        raise kind("stop")
    assert has_checkpoint(work) == learned
    assert sorted(tmp_path.iterdir()) == ([out] if old else []) + ([work] if learned else [])
    if learned:
        assert {path.name for path in work.iterdir()} == {LOCK_FILE, CHECKPOINT, "settings.json"}
    if old:
        assert read_record(out)["note"] == "old"


def test_a_failure_at_the_very_end_keeps_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = make_run(tmp_path / "run")
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if self.name == FINISHED_FOLDER:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with pytest.raises(OSError, match="No space"), new_run(out) as work:
        fill(work, "new")
        monkeypatch.setattr(Path, "rename", refuse_new)
    assert sorted(tmp_path.iterdir()) == [out, work] and read_record(out)["note"] == "old"
    assert {path.name for path in work.iterdir()} == {LOCK_FILE, CHECKPOINT, "settings.json"}


def test_everything_is_on_the_disk_before_the_run_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, bool]] = []
    out = tmp_path / "run"
    monkeypatch.setattr(work_folder_module, "sync_files", lambda folder: synced.append((folder, out.exists())))
    make_run(out)
    assert synced == [(work_folder(out) / FINISHED_FOLDER, False)]


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
