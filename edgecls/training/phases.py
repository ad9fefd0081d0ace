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
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split
from edgecls.networks.model import FEATURES_LAYER
from edgecls.networks.split_layer import block_before, learn_above, learn_gray_and_head, split_at
from edgecls.training.context import Context
from edgecls.training.features.examples import Examples, FeatureExamples, LiveExamples
from edgecls.training.features.frozen import FeatureExtractor, copy_count, frozen_examples
from edgecls.training.fit import ALL_DONE, FitResult, fit
from edgecls.training.history import Divergence, EpochRecord
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint
from edgecls.training.solve import solve

if TYPE_CHECKING:
    import keras

# Phases that start from random weights; every run begins with one of them.
OPENING_PHASES = ("classifier", "network")
# Phases that use the main learning rate and number of epochs; the others use those of fine-tuning.
MAIN_PHASES = (*OPENING_PHASES, "augmented")
# Phases whose classifier can be solved at once, on cached features.
SOLVABLE_PHASES = ("classifier", "augmented")
# Adam's first steps are large however small the gradient is; without warm-up they would destroy what was learned.
FINE_WARMUP_EPOCHS = 1
SCORED_TOGETHER = 1024  # images
# Fields of a recipe that are not settings of the same name.
COMPUTED_FIELDS = ("phase", "epochs", "learning_rate", "schedule", "warmup_epochs", "class_weights", "start_counts")


@dataclass(frozen=True)
class PhaseResult:
    """The result of a phase.

    Attributes:
        name: "classifier", "augmented", "joint", "fine-tuning" or "network".
        epochs: number of epochs.
        best_epoch: the epoch whose weights are kept; 0 if none was better than the start.
        val_accuracy_before: of the model before the phase.
        val_accuracy_after: of the model after it, whether the phase was kept or discarded.
        kept: False if the phase was discarded.
        reason: why it ended, and why it was discarded if it was.
        forward: the engine of the feature extractor and why it was chosen; None without one.
        seconds: how long it took.
        solver: "lbfgs" (solved at once, which counts as one epoch) or "sgd" (in steps).
    """

    name: str
    epochs: int
    best_epoch: int
    val_accuracy_before: float
    val_accuracy_after: float
    kept: bool
    reason: str
    forward: str | None
    seconds: float
    solver: str = "sgd"


@dataclass(frozen=True)
class Training:
    """The results of all phases.

    Attributes:
        phases: in order.
        history: all epochs of all phases.
        divergence: the first number that was not finite, or None; no phase follows it.
        train_scores: float32 (1 + copies, N, C) of the training images, if only the classifier learned.
    """

    phases: tuple[PhaseResult, ...]
    history: tuple[EpochRecord, ...]
    divergence: Divergence | None
    train_scores: NDArray[np.float32] | None = None


def run_phases(context: Context) -> Training:
    """Train `context.model` in place, phase by phase, and return the results."""
    results: list[PhaseResult] = []
    history: list[EpochRecord] = []
    divergence = train_scores = None
    extractors: dict[str, FeatureExtractor] = {}
    for name in phase_names(context.config):
        # The first phase always runs: without it there is no model.
        if divergence or (results and context.workers.is_late(context.deadline)):
            break
        result, fitted, scores = _run_phase(name, context, history, extractors)
        results.append(result)
        history += fitted.history
        divergence = fitted.divergence
        train_scores = scores if result.kept else train_scores
    return Training(tuple(results), tuple(history), divergence, train_scores)


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


def _run_phase(
    name: str, context: Context, earlier: list[EpochRecord], extractors: dict[str, FeatureExtractor]
) -> tuple[PhaseResult, FitResult, NDArray[np.float32] | None]:
    """Return (the phase's result, its epochs, scores of the training images if they take little time)."""
    began = time.monotonic()
    model, config, data = context.model, context.config, context.dataset
    split_layer = _prepare(name, model, config)
    before = model.get_weights()
    learner, known = model, FeatureExtractor()
    train: Examples = LiveExamples(data.train.images, data.train.labels, config.augment, config.seed)
    val: Examples = LiveExamples(data.val.images, data.val.labels, None, config.seed)
    if split_layer is not None:
        known = extractors.setdefault(split_layer, known)
        extractor, learner = split_at(model, split_layer)
        train, val = frozen_examples(name, extractor, split_layer, context, known)
    fitted = _learn(name, learner, train, val, context, earlier, known)
    result = _judge(name, fitted, config, known.used, began)
    _report_end(context, result, fitted)
    if not result.kept:
        model.set_weights(before)
    if split_layer == FEATURES_LAYER and isinstance(train, FeatureExamples):
        return result, fitted, score_copies(learner, train)
    return result, fitted, None


def _learn(
    name: str,
    learner: keras.Model,
    train: Examples,
    val: Examples,
    context: Context,
    earlier: list[EpochRecord],
    known: FeatureExtractor,
) -> FitResult:
    """Let `learner` learn, by its solution or in epochs; it has the better weights then, or its own."""
    recipe, work = _recipe(name, context.config, context.dataset.train), context.work
    checkpoint = Checkpoint(work / f"checkpoint-{name}.npz", f"{context.owner} {name}") if work else None
    report = functools.partial(_report, context, earlier)
    if _is_solved(name, context.config):
        assert isinstance(train, FeatureExamples) and isinstance(val, FeatureExamples)
        fitted, known.l2 = solve(
            learner,
            train,
            val,
            recipe,
            l2=known.l2,
            checkpoint=checkpoint,
            deadline=context.deadline,
            workers=context.workers,
        )
        report(fitted.history[-1], fitted)
        return fitted
    return fit(
        learner,
        train,
        val,
        recipe,
        checkpoint=checkpoint,
        deadline=context.deadline,
        on_epoch=report,
        workers=context.workers,
    )


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
    )


def score_copies(classifier: keras.Model, examples: FeatureExamples) -> NDArray[np.float32]:
    """Return the classifier's scores, float32 (1 + copies, N, C), of every copy of every image."""
    every = np.arange(len(examples.labels))
    parts = np.array_split(every, max(1, len(every) // SCORED_TOGETHER))
    scores = np.zeros((len(examples.copies), len(every), classifier.output.shape[-1]), np.float32)
    for number, features in enumerate(examples.copies):
        for chosen in parts:
            scores[number, chosen] = classifier(features.take(chosen).astype(np.float32), training=False)
    return scores


def score_classifier(context: Context) -> NDArray[np.float32]:
    """Return the validation scores, float32 (N, C), of `context.model` after its classifier learned as in the phase."""
    _prepare("classifier", context.model, context.config)
    extractor, learner = split_at(context.model, FEATURES_LAYER)
    known = FeatureExtractor()
    train, val = frozen_examples("classifier", extractor, FEATURES_LAYER, context, known)
    _learn("classifier", learner, train, val, context, [], known)
    return score_copies(learner, val)[0, :, :]


def _prepare(name: str, model: keras.Model, config: TrainConfig) -> str | None:
    """Set which layers learn in the phase, and return the split layer, or None for the whole network."""
    if name in SOLVABLE_PHASES:
        learn_above(model, FEATURES_LAYER)
        return FEATURES_LAYER
    if name == "fine-tuning":
        split_layer = block_before(model, config.unfreeze)
        learn_above(model, split_layer)
        return split_layer
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
    epochs, accuracy = len(fitted.history), f"validation accuracy {result.val_accuracy_after * 100:.1f} %"
    if _is_solved(result.name, context.config):
        note = f"{fitted.ended}{'' if result.kept else ', discarded'}, {accuracy}"
    else:
        early = "" if fitted.ended == ALL_DONE else "stopped early: "
        best = f"best epoch {result.best_epoch} of {epochs}" if result.kept else "discarded"
        note = f"{early}{fitted.ended}, {best}, {accuracy}"
    context.progress(f"train {result.name}", epochs, max_epochs(result.name, context.config), note)


def _recipe(name: str, config: TrainConfig, train: Split) -> Recipe:
    main = name in MAIN_PHASES
    counts = np.bincount(train.labels)
    balanced = tuple(float(weight) for weight in len(train.labels) / (len(counts) * counts))
    return Recipe(
        phase=name,
        epochs=config.epochs if main else config.fine_epochs,
        learning_rate=config.main_learning_rate if main else config.fine_learning_rate,
        schedule=config.main_schedule if main else config.fine_schedule,
        warmup_epochs=config.warmup_epochs if main else max(config.warmup_epochs, FINE_WARMUP_EPOCHS),
        class_weights=balanced if config.balance else None,
        start_counts=name not in OPENING_PHASES,
        **{
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(Recipe)
            if field.name not in COMPUTED_FIELDS
        },
    )
