"""One training run: images -> split -> phases of learning -> scores on held-out images -> diagnosis -> run folder."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls import __version__
from edgecls.config import TrainConfig
from edgecls.errors import TrainingError
from edgecls.evaluate import write_mistakes
from edgecls.images.assign import Assignment, assign
from edgecls.images.dataset import Dataset, Split, load_dataset
from edgecls.images.folders import find_good_class
from edgecls.images.layout import Layout
from edgecls.images.leftovers import LeftOut
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights, find_weights
from edgecls.progress import Progress, silent
from edgecls.training.augmentation_preview import draw_preview
from edgecls.training.context import NO_PICTURES, Context, Pictures
from edgecls.training.depth import choose_depth
from edgecls.training.diagnosis.diagnose import diagnose
from edgecls.training.diagnosis.finding import Finding, Scored
from edgecls.training.distributed.cluster import Cluster
from edgecls.training.distributed.workers import Workers, join
from edgecls.training.features.cache import feature_folder, prune
from edgecls.training.features.forward import WORTH_CONVERTING, Forward, fastest_forward, run_all
from edgecls.training.outcome import add_data_findings, make_record, metrics, warnings
from edgecls.training.phases import Training, run_phases
from edgecls.training.refit import refit
from edgecls.training.remedies import measure_effects
from edgecls.training.run import run_folder
from edgecls.training.run.settings_file import check_complete, check_settings, describe_settings
from edgecls.training.run.watcher import Watcher
from edgecls.training.run.work_folder import FINISHED_FOLDER, check_out, new_run, remove_checkpoints, work_folder

# Fraction of the time budget, and the least seconds, for scores, pictures and saving.
SCORING_FRACTION, SCORING_SECONDS = 0.1, 5.0


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Attributes:
        record: the content of run.json.
        findings: of the diagnosis, the worst first.
        warnings: other facts that the user should know.
    """

    record: dict[str, Any]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def train(  # noqa: PLR0913
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    cluster: Cluster | None = None,
    pictures: Pictures = NO_PICTURES,
    progress: Progress = silent,
) -> TrainResult:
    """Train a classifier on the folder `data`, write the run into `out`, and return the result.

    Args:
        data: folder of class folders, or of train/, val/ and test/ of them; `config.more_data` may name others.
        out: the run folder.
        config: the settings.
        skip_bad: leave out images that cannot be read.
        overwrite: replace an existing or interrupted run.
        resume: continue an interrupted run; start one if there is none.
        tensorboard: also write event files for TensorBoard.
        cluster: this process is its first worker, and the others call `assist`; None trains in this process alone.
        pictures: what draws the run.
        progress: called at each stage.

    Raises:
        DataError: the images cannot be used. ConfigError: `out` cannot be written, or the run to resume or another
        worker has other settings. WeightsError: no weights. TrainingError: nothing was learned, or a worker was lost.
    """
    if resume and (out / run_folder.RECORD_FILE).is_file() and not work_folder(out).exists():
        record = check_complete(out, config, list_images(data, config, LeftOut()))
        return TrainResult(record, (), (f"{out} is complete: there is nothing to resume",))
    inputs: list[Path | str] = [data, *config.more_data, *config.labels, config.exclude, config.weights]
    check_out(out, overwrite=overwrite or resume, inputs=inputs)
    with new_run(out, resume=resume, overwrite=overwrite) as work, join(cluster, config, progress) as workers:
        result = _train(data, config, skip_bad, work, workers, pictures, tensorboard, progress)
    prune(feature_folder())
    return result


def _train(
    data: Path,
    config: TrainConfig,
    skip_bad: bool,
    work: Path,
    workers: Workers,
    pictures: Pictures,
    tensorboard: bool,
    progress: Progress,
) -> TrainResult:
    """Make the run in the folder `work`, and return its result."""
    started = time.monotonic()
    weights, dataset, settings = _read(data, config, skip_bad, workers, progress)
    owner = check_settings(work, settings)
    config, depths = choose_depth(config, dataset, weights, workers, progress, work, owner)
    model = build_model(config, len(dataset.classes), weights)
    watcher, deadline = Watcher(work, pictures, tensorboard=tensorboard), _deadline(started, config)
    context = Context(
        model, dataset, config, work, owner, deadline=deadline, progress=progress, on_epoch=watcher, workers=workers
    )
    training = _learn(context, work)
    context = dataclasses.replace(context, config=(config := training.config))
    watcher.keep(folder := work / FINISHED_FOLDER)
    record = make_record(config, weights, dataset, data)
    record |= {"workers": workers.count, "flip_errors": training.flip_errors, "depth_accuracies": depths}
    findings = _finish(folder, context, training, weights, record)
    if config.augment is not None:
        draw_preview(dataset.train, config, folder / run_folder.PICTURES_FOLDER / "preview.png", pictures)
    record["seconds"] = round(time.monotonic() - started, 1)
    record["warnings"] = list(warnings(dataset, weights, training, config, record["seconds"]))
    record = run_folder.write_record(folder, record)
    pictures.final(folder)
    return TrainResult(record, findings, tuple(record["warnings"]))


def _learn(context: Context, work: Path) -> Training:
    """Return what all phases learned; raise TrainingError if that is nothing."""
    training = run_phases(context)
    if not any(phase.kept for phase in training.phases):
        # Nothing can be resumed, so that the next run, with other settings, can start.
        remove_checkpoints(work)
        raise TrainingError(_nothing_learned(training, context.config, context.dataset))
    return training


def assist(
    data: Path, config: TrainConfig, cluster: Cluster, *, skip_bad: bool = False, progress: Progress = silent
) -> None:
    """Train as a worker of a cluster other than the first, which calls `train` and keeps the run.

    Raises:
        DataError, WeightsError, TrainingError: as of `train`. ConfigError: another worker has other settings.
    """
    with join(cluster, config, progress) as workers:
        started = time.monotonic()
        weights, dataset, _ = _read(data, config, skip_bad, workers, progress)
        config, _ = choose_depth(config, dataset, weights, workers, progress)
        model = build_model(config, len(dataset.classes), weights)
        deadline = _deadline(started, config)
        run_phases(Context(model, dataset, config, deadline=deadline, progress=progress, workers=workers))
    prune(feature_folder())


def preview(
    data: Path, config: TrainConfig, path: Path, pictures: Pictures, progress: Progress = silent
) -> tuple[str, ...]:
    """Draw training images beside their augmented copies; return how the folder was read and what was left out of it.

    Raises:
        DataError: the images cannot be used.
    """
    dataset = load_images(data, config, False, progress)
    draw_preview(dataset.train, config, path, pictures)
    return tuple(filter(None, (*dataset.notes, dataset.left_out)))


def load_images(data: Path, config: TrainConfig, skip_bad: bool, progress: Progress) -> Dataset:
    """Return the images of `data`, split as a run of `config` splits them.

    Raises:
        DataError: the images cannot be used.
    """
    return load_dataset(
        data,
        config.image_size,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        skip_bad=skip_bad,
        preprocessing=config.preprocessing,
        layout=layout_of(config),
        more=[Path(folder) for folder in config.more_data],
        progress=functools.partial(progress, "read images"),
    )


def layout_of(config: TrainConfig) -> Layout:
    """Return what the settings say of the images and the folders alone do not."""
    return Layout(config.labels, config.columns, config.class_from, config.splits, config.group, config.exclude)


def list_images(data: Path, config: TrainConfig, left_out: LeftOut) -> Assignment:
    """Return the images of `data` by part and class, as a run of `config` reads them; no image is read.

    What is no image is counted in `left_out`.

    Raises:
        DataError: the images cannot be used.
    """
    folders = [data, *map(Path, config.more_data)]
    held_out = {"val": config.val_fraction, "test": config.test_fraction}
    return assign(folders, layout_of(config), held_out, config.seed, left_out)


def _read(
    data: Path, config: TrainConfig, skip_bad: bool, workers: Workers, progress: Progress
) -> tuple[Weights | None, Dataset, dict[str, Any]]:
    """Return weights, images, and a description of both and the settings; check that all workers have the same."""
    import keras
    import tensorflow as tf

    weights = find_weights(config.weights, config.image_size, config.alpha) if config.uses_backbone else None
    dataset = load_images(data, config, skip_bad, progress)
    if config.good_class:
        find_good_class(config.good_class, dataset.classes)
    settings = describe_settings(config, dataset, weights)
    workers.check_same(settings | {"edgecls": __version__, "tensorflow": tf.__version__, "keras": keras.__version__})
    return weights, dataset, settings


def _deadline(started: float, config: TrainConfig) -> float | None:
    if config.time_budget_s is None:
        return None
    return started + config.time_budget_s - max(SCORING_SECONDS, SCORING_FRACTION * config.time_budget_s)


def _finish(
    folder: Path, context: Context, training: Training, weights: Weights | None, record: dict[str, Any]
) -> tuple[Finding, ...]:
    """Score the held-out images, diagnose the run, write all files but run.json, and return the findings."""
    dataset, config = context.dataset, context.config
    scores = {}
    scores["val"], forward = _score(context, "val", dataset.val)
    # The validation scores stay those of a classifier that did not learn from these images.
    record["refit_images"] = refit(context, training.l2)
    if record["refit_images"]:
        run_folder.write_scores(folder / run_folder.VALIDATION_SCORES_FILE, scores["val"])
    if dataset.test is not None:
        scores["test"], _ = _score(context, "test", dataset.test, forward)
    record["metrics"] = metrics(scores, dataset, config.good_class)
    context.model.save(folder / run_folder.MODEL_FILE)
    held_out, held_out_scores = dataset.test or dataset.val, scores.get("test", scores["val"])
    run_folder.write_scores(folder / run_folder.SCORES_FILE, held_out_scores)
    write_mistakes(folder / run_folder.MISTAKES_FILE, held_out.paths, held_out.labels, dataset.classes, held_out_scores)
    run_folder.write_history(folder, training.history)
    kept = {phase.name for phase in training.phases if phase.kept}
    last = training.divergence.phase if training.divergence else None
    history = [epoch for epoch in training.history if epoch.phase in kept or epoch.phase == last]
    learned, test, found = dataset.train, dataset.test, training.train_scores
    findings = diagnose(
        history,
        config,
        dataset.classes,
        divergence=training.divergence,
        train=None if found is None else Scored("training", found, learned.labels, learned.paths),
        train_labels=learned.labels,
        val=Scored("validation", scores["val"], dataset.val.labels, dataset.val.paths),
        test=Scored("test", scores["test"], test.labels, test.paths) if test else None,
    )
    findings = measure_effects(findings, context, weights, training.phases[0].seconds)
    findings = add_data_findings(findings, dataset)
    record["phases"] = [dataclasses.asdict(phase) for phase in training.phases]
    record["diagnosis"] = [dataclasses.asdict(finding) for finding in findings]
    return findings


def _score(
    context: Context, name: str, part: Split, known: Forward | None = None
) -> tuple[NDArray[np.float32], Forward]:
    """Return the model's scores on a part, called `name`, and what computed them: `known` if few images allow it."""
    # Keras computes with the weights of now, OpenVINO with those of its conversion.
    if known is None or known.engine != "keras" or len(part.labels) >= WORTH_CONVERTING:
        known = fastest_forward(context.model, part.images, len(part.labels))
    return run_all(known, part.images, functools.partial(context.progress, f"score {name} images")), known


def _nothing_learned(training: Training, config: TrainConfig, dataset: Dataset) -> str:
    findings = diagnose(training.history, config, dataset.classes, divergence=training.divergence)
    text = "nothing was learned: a number was not finite before the first epoch ended"
    return text + "".join(f"\n{finding.text} {finding.remedy}" for finding in findings)
