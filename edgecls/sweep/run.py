"""One network of a sweep: trained into a run folder of its own, exported, scored from its file.

Every step continues from what an interrupted sweep has left.
"""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecls.boards.compatibility import check_file
from edgecls.boards.rule_result import reasons_against
from edgecls.choose.candidates import load_images
from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.evaluate import score_images
from edgecls.export.gate import Comparison, compare
from edgecls.export.run_files import RunFile, export_missing, find_files
from edgecls.progress import Progress
from edgecls.report.pictures import PICTURES
from edgecls.runtime.classifier import load
from edgecls.sweep.latency import Deployment
from edgecls.training.run import run_folder
from edgecls.training.run.work_folder import work_folder
from edgecls.training.train import TrainResult, train


@dataclass(frozen=True)
class ScoredRun:
    """A network and its file."""

    run: Path  # its run folder
    file: Path  # the exported file
    size_bytes: int  # of the file
    comparison: Comparison | None  # the file against the float model; None if there is no file
    wrong: frozenset[int]  # indices of the held-out images that the file gets wrong
    held_out: tuple[str, ...]  # paths of all of these images
    seconds: float  # that training took
    val_accuracy: float  # of the trained network on the validation images
    val_images: int  # how many these are
    problem: str  # why the file cannot be shipped, or ""


def train_run(data: Path, run: Path, config: TrainConfig, progress: Progress) -> TrainResult:
    """Return what the run folder `run` holds, after training it if it is not complete; warnings only of a new one.

    Raises:
        ConfigError: `run` was made with other settings or from other images. And as `training.train.train`.
    """
    is_complete = (run / run_folder.RECORD_FILE).is_file() and not work_folder(run).exists()
    # A network of a sweep has the blocks that its settings say, or all.
    config = dataclasses.replace(config, choose_blocks=False)
    result = train(data, run, config, resume=True, pictures=PICTURES, progress=progress)
    forget_networks()
    return dataclasses.replace(result, warnings=()) if is_complete else result


def forget_networks() -> None:
    """Free the memory of networks that are no longer used; Keras keeps all that a process has made."""
    import keras

    keras.utils.clear_session()
    gc.collect()


def score_run(run: Path, deployment: Deployment, max_drop: float, progress: Progress) -> ScoredRun:
    """Return what the run's file scores in its runtime on the held-out images; it is exported if it is missing.

    Raises:
        DataError: the run's images changed. ModelFileError: `run` is no run, or its file is damaged.
    """
    record = run_folder.read_whole_record(run)
    images = load_images(run, Path(record["data"]), progress)
    if images.float_scores is None:
        raise DataError(f"the held-out images of {run} changed since it was trained; give --out another folder")
    file = _export(run, deployment, max_drop, progress)
    unscored = ScoredRun(
        run=run,
        file=file.path,
        size_bytes=0,
        comparison=None,
        wrong=frozenset(),
        held_out=tuple(images.split.paths),
        seconds=float(record.get("seconds", 0)),
        val_accuracy=float(record["metrics"]["val_accuracy"]),
        val_images=sum(map(len, record["split"]["val"].values())),
        problem=file.problem,
    )
    if not file.path.is_file():
        return unscored
    with load(file.path) as classifier:
        scores = score_images(classifier, images.split.images, lambda done, total: progress("score", done, total))
    comparison = compare(scores, images.float_scores, images.split.labels, record["classes"], max_drop)
    return dataclasses.replace(
        unscored,
        size_bytes=file.path.stat().st_size,
        comparison=comparison,
        wrong=frozenset(np.flatnonzero(scores.argmax(1) != images.split.labels).tolist()),
        problem=("" if comparison.passed else comparison.verdict) or _refuse(file.path, deployment),
    )


def _export(run: Path, deployment: Deployment, max_drop: float, progress: Progress) -> RunFile:
    """Return the run's file for the deployment, exported if it is missing."""
    files = find_files(run, deployment.target, max_drop)
    file = next(each for each in files if (each.precision, each.format) == (deployment.precision, deployment.format))
    return file if file.is_there else export_missing(run, [file], deployment.target, max_drop, progress=progress)[0]


def _refuse(file: Path, deployment: Deployment) -> str:
    """Return why the board does not run a file, or ""."""
    return reasons_against(check_file(file, deployment.profile)) if deployment.profile else ""
