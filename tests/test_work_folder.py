from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecls.errors import ConfigError
from edgecls.training import work_folder as work_folder_module
from edgecls.training.run_folder import read_record, write_record
from edgecls.training.work_folder import (
    FINISHED_FOLDER,
    LOCK_FILE,
    check_out,
    has_checkpoint,
    new_run,
    remove_checkpoints,
    work_folder,
)

RECORD: dict[str, Any] = dict.fromkeys(("config", "classes", "weights", "metrics", "data", "split", "held_out"), {})


OPTIONS: tuple[dict[str, Any], ...] = ({}, {"resume": True}, {"overwrite": True})
CHECKPOINT = "checkpoint-head.npz"
# Trains "for ever", after it has said that it began.
TRAIN = """
import sys, time
from pathlib import Path
from edgecls.training.work_folder import new_run
with new_run(Path(sys.argv[1])) as work:
    (work / "checkpoint-head.npz").touch()
    print("begun", flush=True)
    time.sleep(60)
"""


def fill(work: Path, note: str) -> None:
    """Save a checkpoint and everything a run holds."""
    (work / CHECKPOINT).write_text(note)
    (work / "settings.json").touch()
    folder = work / FINISHED_FOLDER
    write_record(folder, {**RECORD, "note": note})
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_bytes(b"picture")


def make_run(out: Path, note: str = "old", **options: Any) -> Path:
    with new_run(out, **options) as work:
        fill(work, note)
    return out


def interrupt(out: Path, note: str = "new", **options: Any) -> Path:
    """Leave a work folder as Ctrl-C at the very end of a run does, and return it."""
    with pytest.raises(KeyboardInterrupt), new_run(out, **options) as work:
        fill(work, note)
        raise KeyboardInterrupt
    return work


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


# Interrupted and resumed


def test_an_interrupted_run_is_not_begun_anew_by_mistake(tmp_path: Path) -> None:
    out = tmp_path / "run"
    work = interrupt(out)
    with pytest.raises(ConfigError, match=rf"interrupted run lies in {work}; add --resume .*, or --overwrite"):
        make_run(out)
    assert (work / CHECKPOINT).read_text() == "new"


def test_a_resumed_run_finds_what_was_learned_and_nothing_half_finished(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (interrupt(out) / f".{CHECKPOINT}.0a1b.tmp").touch()
    (work_folder(out) / FINISHED_FOLDER / "half").mkdir(parents=True)
    with new_run(out, resume=True) as work:
        assert {path.name for path in work.iterdir()} == {LOCK_FILE, CHECKPOINT, "settings.json", FINISHED_FOLDER}
        assert not any((work / FINISHED_FOLDER).iterdir())
        fill(work, "resumed")
    assert read_record(out)["note"] == "resumed" and list(tmp_path.iterdir()) == [out]


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (interrupt(out) / "tensorboard").mkdir()
    with new_run(out, overwrite=True) as work:
        assert {path.name for path in work.iterdir()} == {LOCK_FILE, FINISHED_FOLDER}
        fill(work, "anew")
    assert read_record(out)["note"] == "anew"


def test_resume_begins_a_run_if_there_is_none(tmp_path: Path) -> None:
    assert read_record(make_run(tmp_path / "run", "first", resume=True))["note"] == "first"


def test_a_run_without_a_checkpoint_is_simply_begun_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    work = interrupt(out)
    remove_checkpoints(work)
    assert not has_checkpoint(work)
    assert read_record(make_run(out, "again"))["note"] == "again"


def test_a_full_disk_at_the_start_of_a_resumed_run_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    work = interrupt(out)
    mkdir = Path.mkdir

    def refuse(self: Path, *args: Any, **options: Any) -> None:
        if self.name == FINISHED_FOLDER:
            raise OSError(28, "No space left on device")
        mkdir(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, "mkdir", refuse)
        make_run(out, resume=True)
    assert (work / CHECKPOINT).read_text() == "new"
    assert read_record(make_run(out, "resumed", resume=True))["note"] == "resumed"


# Two at once


def test_a_second_process_is_told_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", TRAIN, out], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    for options in OPTIONS:
        with pytest.raises(ConfigError, match=rf"another process is training into {out}; wait for it, or give --out"):
            make_run(out, **options)
    assert has_checkpoint(work_folder(out))
    process.kill()
    process.communicate()
    assert read_record(make_run(out, "resumed", resume=True))["note"] == "resumed"


def test_a_folder_of_the_same_name_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    photos = work_folder(out) / "photos"
    photos.mkdir(parents=True)
    for options in OPTIONS:
        with pytest.raises(ConfigError, match=r"run\.partial is in the way of the new run and not ours"):
            make_run(out, **options)
    assert photos.is_dir()


# Killed between two steps


class Killed(BaseException):
    """Stands for SIGKILL: from then on nothing on the disk changes, clearing up included."""


CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"}
changes_left: list[int] = []  # until death; empty for an immortal process


def die_in_time(event: str, args: tuple[Any, ...]) -> None:
    if not changes_left or event not in CHANGES:
        return
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    changes_left[0] -= 1
    if changes_left[0] < 0:
        raise Killed


sys.addaudithook(die_in_time)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_killed_at_any_moment_a_run_can_be_made_again_and_an_old_one_is_never_lost(
    tmp_path: Path, old: bool, resume: bool
) -> None:
    """Die at the first change of the disk, in another folder at the second, and so on until one run goes through."""
    for moment in itertools.count():
        out = tmp_path / str(moment) / "run"
        out.parent.mkdir()
        if old:
            make_run(out, "old")
        changes_left.append(moment)
        try:
            make_run(out, "new")
            break
        except Killed:
            pass
        finally:
            changes_left.clear()
        if old:
            places = (out, work_folder(out) / f"{FINISHED_FOLDER}-old")
            assert any((place / "plots" / "a.png").is_file() and read_record(place) for place in places)
        make_run(out, "again", resume=resume, overwrite=not resume)
        assert read_record(out)["note"] == "again" and list(out.parent.iterdir()) == [out]
    # Folder, lock, checkpoint, what the run holds, the renames, the clearing.
    assert moment > 12


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
