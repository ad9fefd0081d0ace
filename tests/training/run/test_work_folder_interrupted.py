"""What an interrupted run leaves, and who may resume it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from work_runs import CHECKPOINT, OPTIONS, fill, interrupt, make_run

from edgecls.errors import ConfigError
from edgecls.training.run.run_folder import read_record
from edgecls.training.run.work_folder import (
    FINISHED_FOLDER,
    LOCK_FILE,
    has_checkpoint,
    new_run,
    remove_checkpoints,
    work_folder,
)

# Trains "for ever", after it has said that it began.
TRAIN = """
import sys, time
from pathlib import Path
from edgecls.training.run.work_folder import new_run
with new_run(Path(sys.argv[1])) as work:
    (work / "checkpoint-classifier.npz").touch()
    print("begun", flush=True)
    time.sleep(60)
"""


# Interrupted and resumed


def test_an_interrupted_run_is_not_begun_again_by_mistake(tmp_path: Path) -> None:
    out = tmp_path / "run"
    work = interrupt(out)
    with pytest.raises(ConfigError, match=rf"{work} holds an interrupted run; add --resume .*, or --overwrite"):
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


def test_overwrite_begins_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (interrupt(out) / "tensorboard").mkdir()
    with new_run(out, overwrite=True) as work:
        assert {path.name for path in work.iterdir()} == {LOCK_FILE, FINISHED_FOLDER}
        fill(work, "again")
    assert read_record(out)["note"] == "again"


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


def test_a_second_process_is_reported_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
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
        with pytest.raises(ConfigError, match=r"run\.partial is in the way and was not made by edgecls"):
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
