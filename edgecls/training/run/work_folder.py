"""The folder beside RUN in which a run is made. Its content becomes RUN at the end; a crash leaves it behind.

One process works in it at a time. While training it holds checkpoints, curves and the lock.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgecls.errors import ConfigError
from edgecls.files import check_survives, locked, remove_leftovers, sync_files
from edgecls.training.run.run_folder import RECORD_FILE

FINISHED_FOLDER = "finished"
LOCK_FILE = "lock"
CHECKPOINTS = "checkpoint-*.npz"


def check_out(out: Path, *, overwrite: bool = False, inputs: Iterable[Path | str] = ()) -> None:
    """Check, before any work is done, that a run of the files and folders `inputs` may be written to `out`.

    Raises:
        ConfigError: `out` is a file, or exists and may not be replaced, or is not an old run and so never replaced.
    """
    if Path.cwd().is_relative_to(out.resolve()):
        raise ConfigError(f"the current folder {Path.cwd()} would be replaced; give --out a new folder")
    if out.is_dir():
        if not any(out.iterdir()):
            return
        if not (out / RECORD_FILE).is_file():
            raise ConfigError(f"{out} is a folder with other files in it; give --out a new folder")
        if not overwrite:
            raise ConfigError(f"{out} already holds a run; give --out another folder, or --overwrite to replace it")
        check_survives(out, inputs)
    elif out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists and is not a folder; give --out a new folder")


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` in which a run is made: checkpoints, curves, and in the end the run itself."""
    out = out.resolve()
    return out.with_name(f"{out.name}.partial")


@contextlib.contextmanager
def new_run(out: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Yield the work folder of `out`; its `FINISHED_FOLDER` becomes `out` on success.

    An old run at `out` is replaced only at the end, when the new one is complete. If `out` is a link, what it points to
    is replaced. After an error or an interruption the work folder stays if there is a checkpoint in it.

    Args:
        out: the run folder.
        resume: continue with the work folder of an interrupted run.
        overwrite: replace the work folder of an interrupted run.

    Raises:
        ConfigError: the folder cannot be written, another process works in it, or an interrupted run is in the way.
    """
    out = out.resolve()
    work = work_folder(out)
    finished = work / FINISHED_FOLDER
    _make_work(work)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(work / LOCK_FILE, wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"another process is training into {out}; wait for it, or give --out another folder"
            ) from error
        _restore(work, out)
        _begin(work, resume=resume, overwrite=overwrite)
        finished.mkdir()
        try:
            yield work
            sync_files(finished)
            _put_in_place(finished, out)
        finally:
            complete = not finished.exists()
            shutil.rmtree(finished, ignore_errors=True)
            if complete or not has_checkpoint(work):
                _clear(work)
                (work / LOCK_FILE).unlink()
                work.rmdir()


def _make_work(work: Path) -> None:
    # A work folder without a lock is empty: the lock is created first and removed last.
    if work.exists() and not (work / LOCK_FILE).exists() and not (work.is_dir() and not any(work.iterdir())):
        raise ConfigError(f"{work} is in the way and was not made by edgecls; move it, or give --out another folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / LOCK_FILE).touch()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {work.parent}: {error.strerror}; give --out a folder that you may write"
        ) from error


def _restore(work: Path, out: Path) -> None:
    """Rename an old run back, if a process was killed between the two renames of `_put_in_place`."""
    old = work / f"{FINISHED_FOLDER}-old"
    if old.exists() and not out.exists():
        old.rename(out)
    # If it was killed after both, the old run is not needed.
    shutil.rmtree(old, ignore_errors=True)


def _begin(work: Path, *, resume: bool, overwrite: bool) -> None:
    """Clear the work folder, or prepare it for a resumed run."""
    if resume:
        shutil.rmtree(work / FINISHED_FOLDER, ignore_errors=True)
        remove_leftovers(work)
    elif has_checkpoint(work) and not overwrite:
        raise ConfigError(
            f"{work} holds an interrupted run; add --resume to continue it, or --overwrite to start again"
        )
    else:
        _clear(work)


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


def has_checkpoint(work: Path) -> bool:
    """Return whether there is a checkpoint to resume from."""
    return any(work.glob(CHECKPOINTS))


def remove_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a failed run, so that its work folder is removed too."""
    for path in work.glob(CHECKPOINTS):
        path.unlink()


def _put_in_place(complete: Path, out: Path) -> None:
    """Rename `complete` to `out`; an old run is removed, or put back if the rename fails."""
    if not out.exists():
        complete.rename(out)
        return
    old = complete.with_name(f"{complete.name}-old")
    try:
        out.rename(old)
        complete.rename(out)
    finally:
        if not out.exists():
            old.rename(out)
    shutil.rmtree(old)
