"""Finds the fastest way to run a trained network that keeps its accuracy: exports, scores, times and explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgecls.benchmark.plan import Settings
from edgecls.benchmark.process import LOCAL
from edgecls.boards.doctor import find_profile
from edgecls.boards.machine import read_machine
from edgecls.boards.profiles import Profile
from edgecls.boards.targets import Target, find_target
from edgecls.choose.candidates import find_candidates, load_images
from edgecls.choose.choice import Choice
from edgecls.choose.int8_gain import explain_int8
from edgecls.choose.rounds import time_candidates
from edgecls.config import ExportConfig
from edgecls.export.run_files import RunFile, export_missing, find_files
from edgecls.images.archive import is_folder
from edgecls.progress import Progress, silent
from edgecls.training.run import run_folder


def choose_run(
    run: Path,
    data: Path,
    *,
    profile: Profile | None = None,
    max_drop: float = ExportConfig.max_drop,
    seconds: float = Settings.seconds,
    command: Sequence[str] = LOCAL,
    progress: Progress = silent,
) -> Choice:
    """Return the choice for the run folder `run`, its missing files exported and all scored on the images in `data`.

    The choice is for a board, or for this machine if `profile` is None. Each finalist is timed for `seconds` at least,
    in workers that `command` starts.

    Raises:
        ConfigError: a setting is out of range.
        ModelFileError: `run` is not a run folder, or a file in it is damaged. DataError: images cannot be used.
        BenchmarkError: a timing process ended.
    """
    # Checked here, before minutes pass.
    Settings(seconds=seconds)
    ExportConfig(max_drop=max_drop)
    record, target = run_folder.read_whole_record(run), _target(profile)
    images = load_images(run, data, progress)
    # Where the run's own images were moved, these are they.
    moved = None if is_folder(Path(record["data"])) else data
    files = _export_all(run, target, max_drop, moved, progress)
    found = find_candidates(files, images, record["classes"], max_drop, profile=profile, progress=progress)
    here = find_profile(read_machine())
    is_here = profile is None or (here is not None and here.name == profile.name)
    advice = "" if profile is None or is_here else _advise(profile)
    best = here.recommended if here else None
    usual = (best.precision, best.format, best.engine) if best else None
    device = profile.name if profile else ""
    choice = Choice(run, images, max_drop, device, is_here, found, None, advice=advice, usual=usual)
    if all(candidate.rejected_because for candidate in found):
        return choice
    timing = time_candidates(found, seconds, command=command, progress=progress)
    return replace(choice, timing=timing, int8=explain_int8(timing, found))


def needs_export(run: Path, profile: Profile | None, max_drop: float) -> bool:
    """Return True if `choose_run` would export something first.

    Raises:
        ModelFileError: a file is damaged.
    """
    return not all(file.is_there for file in find_files(run, _target(profile), max_drop))


def _export_all(
    run: Path, target: Target, max_drop: float, data: Path | None, progress: Progress
) -> tuple[RunFile, ...]:
    """Return the files of a run, after exporting those that are missing."""
    files = find_files(run, target, max_drop)
    if all(file.is_there for file in files):
        return files
    return export_missing(run, files, target, max_drop, data=data, progress=progress)


def _target(profile: Profile | None) -> Target:
    return find_target(profile.export_target if profile else None)


def _advise(profile: Profile) -> str:
    best = profile.recommended
    return (
        f"Its profile recommends {best.precision} .{best.format} in {best.engine} with {best.threads} threads: "
        f"{best.why}."
    )
