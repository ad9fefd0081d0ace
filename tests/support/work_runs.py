"""Runs that hold next to nothing, finished and interrupted, for the tests of edgecls.training.run.work_folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecls.training.run.run_folder import write_record
from edgecls.training.run.work_folder import FINISHED_FOLDER, new_run

RECORD: dict[str, Any] = dict.fromkeys(("config", "classes", "weights", "metrics", "data", "split", "held_out"), {})


OPTIONS: tuple[dict[str, Any], ...] = ({}, {"resume": True}, {"overwrite": True})
CHECKPOINT = "checkpoint-classifier.npz"


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
