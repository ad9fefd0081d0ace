"""The phases of a run: the classifier first, then the phases that may improve it. One that does not is discarded.

The classifier first learns from the images themselves, whose features take a quarter of the time of those of all
augmented copies: so most of the accuracy is reached early.

A phase with a split layer computes the features below it once and caches them (frozen.py). A phase without one sees the
images themselves, augmented differently in every epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.messages.numbers import percent
from edgecls.networks.model import FEATURES_LAYER
from edgecls.networks.split_layer import block_before, learn_above, learn_gray_and_head, split_at
from edgecls.training.context import Context
from edgecls.training.effort import fine_blocks, fine_settings, whole_settings
from edgecls.training.features.examples import Examples, FeatureExamples, LiveExamples
from edgecls.training.features.frozen import FeatureExtractor, copy_count, frozen_examples
from edgecls.training.fine_tuning import Learned, find_checkpoint, solve_again
from edgecls.training.fit import ALL_DONE, FitResult, fit
from edgecls.training.history import Divergence, EpochRecord
from edgecls.training.mirroring import choose_flip
from edgecls.training.phase_names import BLOCK_PHASES, MAIN_PHASES, OPENING_PHASES, SOLVABLE_PHASES
from edgecls.training.recipe import make_recipe
from edgecls.training.solve import score_copies, solve

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class PhaseResult:
    """The result of a phase."""

    name: str  # "classifier", "augmented", "joint", "fine-tuning", "backbone" (all of its blocks) or "network"
    epochs: int  # number of epochs
    best_epoch: int  # whose weights are kept; 0 if none was better than the start
    val_accuracy_before: float  # of the model before the phase
    val_accuracy_after: float  # of the model after it, whether the phase was kept or discarded
    kept: bool  # False if the phase was discarded
    reason: str  # why it ended, and why it was discarded if it was
    forward: str | None  # the engine of the feature extractor and why it was chosen; None without one
    seconds: float  # how long it took
    solver: str = "sgd"  # "lbfgs" (solved at once, which counts as one epoch) or "sgd" (in steps)
    unfreeze: int = 0  # how many of the last blocks learned
    epoch_seconds: float = 0.0  # how long an epoch took on average


@dataclass(frozen=True)
class Training:
    """The results of all phases.

    Attributes:
        phases: in order.
        history: all epochs of all phases.
        divergence: the first number that was not finite, or None; no phase follows it.
        config: the settings, with what was chosen for `--flip auto`.
        flip_errors: squared errors from which it was chosen; empty if it was not.
        train_scores: float32 (1 + copies, N, C) of the training images, if only the classifier learned.
        l2: strength of the penalty with which the classifier was solved; None if it was not.
    """

    phases: tuple[PhaseResult, ...]
    history: tuple[EpochRecord, ...]
    divergence: Divergence | None
    config: TrainConfig
    flip_errors: dict[str, float]
    train_scores: NDArray[np.float32] | None = None
    l2: float | None = None


@dataclass
class _Run:
    """What the phases so far came to."""

    results: list[PhaseResult] = field(default_factory=list)
    history: list[EpochRecord] = field(default_factory=list)
    divergence: Divergence | None = None
    train_scores: NDArray[np.float32] | None = None
    kept: Learned | None = None  # by the last phase that was kept
    extractors: dict[str, FeatureExtractor] = field(default_factory=dict)

    def may_go_on(self, context: Context) -> bool:
        # The first phase always runs: without it there is no model.
        return not self.divergence and not (self.results and context.workers.is_late(context.deadline))

    def add(self, name: str, context: Context) -> None:
        result, learned, scores = _run_phase(name, context, self)
        self.results.append(result)
        self.history += learned.fitted.history
        self.divergence = learned.fitted.divergence
        if result.kept:
            self.kept, self.train_scores = learned, scores


def run_phases(context: Context) -> Training:
    """Train `context.model` in place, phase by phase, and return the results."""
    run = _Run()
    backbone = run.extractors.setdefault(FEATURES_LAYER, FeatureExtractor())
    context, flip_errors = choose_flip(context, backbone)
    for name in phase_names(context.config):
        if run.may_go_on(context):
            run.add(name, context)
    effort = context.config.main_effort
    if effort != "quick" and any(phase.kept for phase in run.results):
        blocks = fine_blocks(context)
        if blocks and run.may_go_on(context):
            run.add("fine-tuning", dataclasses.replace(context, config=fine_settings(context, blocks)))
        if effort == "best" and run.may_go_on(context):
            run.add("backbone", dataclasses.replace(context, config=whole_settings(context)))
    l2 = run.kept.l2 if run.kept else None
    history = tuple(run.history)
    return Training(tuple(run.results), history, run.divergence, context.config, flip_errors, run.train_scores, l2)


def phase_names(config: TrainConfig) -> list[str]:
    """Return the phases of a run in their order."""
    if config.arch != "mobilenet_v2":
        return ["network"]
    # A random gray_to_rgb learns together with the classifier from the first step on, as in the joint phase.
    if config.gray_to_rgb == "random":
        first = ["network"]
    else:
        first = ["classifier", *(["augmented"] if copy_count(config) else []), *(["joint"] if config.joint else [])]
    return [*first, *(["fine-tuning"] if config.unfreeze else [])]


def _run_phase(name: str, context: Context, run: _Run) -> tuple[PhaseResult, Learned, NDArray[np.float32] | None]:
    """Return (the phase's result, what it learned, scores of the training images if they take little time)."""
    began = time.monotonic()
    model, config, data = context.model, context.config, context.dataset
    split_layer = _prepare(name, model, config)
    before = model.get_weights()
    learner, known = model, FeatureExtractor()
    train: Examples = LiveExamples(data.train.images, data.train.labels, config.augment, config.seed)
    val: Examples = LiveExamples(data.val.images, data.val.labels, None, config.seed)
    if split_layer is not None:
        known = run.extractors.setdefault(split_layer, known)
        extractor, learner = split_at(model, split_layer)
        copies = 0 if name == "classifier" else None
        train, val = frozen_examples(name, extractor, split_layer, context, known, copies=copies)
    learned = _learn(name, learner, train, val, context, run)
    result = _judge(name, learned.fitted, config, known.used, began)
    _report_end(context, result, learned.fitted)
    if not result.kept:
        model.set_weights(before)
    if split_layer == FEATURES_LAYER and isinstance(train, FeatureExamples):
        return result, learned, score_copies(learner, train)
    return result, learned, None


def _learn(
    name: str,
    learner: keras.Model,
    train: Examples,
    val: Examples,
    context: Context,
    run: _Run,
) -> Learned:
    """Let `learner` learn, by its solution or in epochs; it has the better weights then, or its own."""
    recipe = make_recipe(name, context.config, context.dataset.train.labels)
    checkpoint = find_checkpoint(context, name)
    report = functools.partial(_report, context, list(run.history))
    if _is_solved(name, context.config):
        assert isinstance(train, FeatureExamples) and isinstance(val, FeatureExamples)
        known = run.extractors[FEATURES_LAYER]
        fitted = solve(
            learner,
            train,
            val,
            recipe,
            known=known,
            checkpoint=checkpoint,
            deadline=context.deadline,
            workers=context.workers,
        )
        report(fitted.history[-1], fitted)
        return Learned(fitted, known.soft, known.l2)
    start = _soften(context, run) if name in BLOCK_PHASES else None
    fitted = fit(
        learner,
        train,
        val,
        dataclasses.replace(recipe, start_counts=recipe.start_counts and start is None),
        checkpoint=checkpoint,
        deadline=context.deadline,
        on_epoch=report,
        workers=context.workers,
    )
    return Learned(fitted) if start is None else solve_again(context, recipe, fitted, start)


def _soften(context: Context, run: _Run) -> FitResult | None:
    """Let fine-tuning start from a softer classifier than a solved one; return the solution, or None without one."""
    if run.kept is None or not run.kept.soft:
        return None
    context.model.layers[-1].set_weights(run.kept.soft)
    return run.kept.fitted


def _is_solved(name: str, config: TrainConfig) -> bool:
    return name in SOLVABLE_PHASES and config.classifier_solver == "lbfgs"


def _judge(name: str, fitted: FitResult, config: TrainConfig, forward: str | None, began: float) -> PhaseResult:
    # An opening phase is never discarded for its accuracy: before it, the network is untrained.
    worse = name not in OPENING_PHASES and fitted.best_accuracy < fitted.start_accuracy
    kept = fitted.best_epoch > 0 and not worse
    return PhaseResult(
        name,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch if kept else 0,
        val_accuracy_before=fitted.start_accuracy,
        val_accuracy_after=fitted.best_accuracy if kept else fitted.start_accuracy,
        kept=kept,
        reason=fitted.ended + ("" if kept else "; discarded: it did not help on the validation images"),
        forward=forward,
        seconds=round(time.monotonic() - began, 1),
        solver="lbfgs" if _is_solved(name, config) else "sgd",
        unfreeze=config.unfreeze or 0 if name in BLOCK_PHASES else 0,
        epoch_seconds=round(sum(epoch.seconds for epoch in fitted.history) / max(1, len(fitted.history)), 3),
    )


def score_classifier(context: Context) -> NDArray[np.float32]:
    """Return the validation scores, float32 (N, C), of `context.model` after its classifier learned as in the phase."""
    _prepare("classifier", context.model, context.config)
    extractor, learner = split_at(context.model, FEATURES_LAYER)
    known = FeatureExtractor()
    train, val = frozen_examples("classifier", extractor, FEATURES_LAYER, context, known, copies=0)
    _learn("classifier", learner, train, val, context, _Run(extractors={FEATURES_LAYER: known}))
    return score_copies(learner, val)[0, :, :]


def _prepare(name: str, model: keras.Model, config: TrainConfig) -> str | None:
    """Set which layers learn in the phase, and return the split layer, or None for the whole network."""
    if name in SOLVABLE_PHASES:
        learn_above(model, FEATURES_LAYER)
        return FEATURES_LAYER
    if name == "fine-tuning":
        split_layer = block_before(model, config.unfreeze or 0)
        learn_above(model, split_layer)
        return split_layer
    if name == "backbone":
        # Features before the first block would take more room than the images.
        learn_above(model, block_before(model, config.unfreeze or 0))
        return None
    if config.arch == "mobilenet_v2":
        learn_gray_and_head(model)
    return None


def max_epochs(phase: str, config: TrainConfig) -> int:
    """Return the most epochs that a phase may have."""
    if _is_solved(phase, config):
        return 1
    return config.epochs if phase in MAIN_PHASES else config.fine_epochs


def _report(context: Context, earlier: list[EpochRecord], record: EpochRecord, so_far: FitResult) -> None:
    config = context.config
    total = max_epochs(record.phase, config)
    best = f"val {record.val_accuracy:.4f}, best {so_far.best_accuracy:.4f}"
    context.progress(f"train {record.phase}", record.epoch, total, best)
    context.on_epoch([*earlier, *so_far.history])


def _report_end(context: Context, result: PhaseResult, fitted: FitResult) -> None:
    """Say what happened, in place of the values of the last epoch."""
    epochs, accuracy = len(fitted.history), f"validation accuracy {percent(result.val_accuracy_after)}"
    if _is_solved(result.name, context.config):
        note = f"{fitted.ended}{'' if result.kept else ', discarded'}, {accuracy}"
    else:
        early = "" if fitted.ended.startswith(ALL_DONE) else "stopped early: "
        best = f"best epoch {result.best_epoch} of {epochs}" if result.kept else "discarded"
        note = f"{early}{fitted.ended}, {best}, {accuracy}"
    context.progress(f"train {result.name}", epochs, max_epochs(result.name, context.config), note)
