"""The phases of a run, one after the other: the head, then whatever else may help. Each must help, or is undone.

The head learns from the images themselves first, as their features cost a quarter of those of all views: most of what a
run can reach is there early.

What a phase leaves frozen below its cut is computed once and kept (frozen.py); a phase without a cut sees the images
themselves, changed anew in every epoch.
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
from edgecls.training.features.examples import FeatureExamples, LiveExamples
from edgecls.training.features.frozen import Trunk, frozen_examples, view_count
from edgecls.training.fit import Examples, FitResult, fit
from edgecls.training.history import Divergence, EpochRecord
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint

if TYPE_CHECKING:
    import keras

# Those that begin from nothing; one of them opens every run.
OPENING_PHASES = ("head", "all")
# Those that learn at full rate for all epochs, the others at the fine one.
MAIN_PHASES = (*OPENING_PHASES, "views")
# Adam's first steps are all of the same size, however small the gradient: at full rate they wreck what was learned.
FINE_WARMUP_EPOCHS = 1
SCORED_TOGETHER = 1024  # images
# Of a recipe, those that are no settings of the same name.
COMPUTED_FIELDS = ("phase", "epochs", "first_rate", "schedule", "warmup_epochs", "class_weights", "start_counts")


@dataclass(frozen=True)
class PhaseResult:
    """What a phase came to.

    Attributes:
        name: "head", "views", "joint", "unfreeze" or "all".
        epochs: that it ran.
        best_epoch: whose weights are kept; 0 if none was better than the start.
        val_accuracy_before: of the model as it came.
        val_accuracy_after: of the model as it left, undone or not.
        kept: False if the phase was undone.
        reason: why it ended, and why it was undone if it was.
        forward: the engine of the frozen part and how it was chosen; None without one.
        seconds: it took.
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


@dataclass(frozen=True)
class Training:
    """What came of all phases.

    Attributes:
        phases: in order.
        history: all epochs of all phases.
        divergence: what was not finite, if anything; no phase follows it.
        train_scores: float32 (1 + views, N, C) of the training images, if no more than the head learned.
    """

    phases: tuple[PhaseResult, ...]
    history: tuple[EpochRecord, ...]
    divergence: Divergence | None
    train_scores: NDArray[np.float32] | None = None


def run_phases(setting: Context) -> Training:
    """Train `setting.model` in place, phase by phase, and return what came of it."""
    results: list[PhaseResult] = []
    history: list[EpochRecord] = []
    divergence = train_scores = None
    trunks: dict[str, Trunk] = {}
    for name in phase_names(setting.config):
        # The first phase runs in any case: without it there is nothing to keep.
        if divergence or (results and setting.workers.is_late(setting.deadline)):
            break
        result, fitted, scores = _run_phase(name, setting, history, trunks)
        results.append(result)
        history += fitted.history
        divergence = fitted.divergence
        train_scores = scores if result.kept else train_scores
    return Training(tuple(results), tuple(history), divergence, train_scores)


def phase_names(config: TrainConfig) -> list[str]:
    """Return the phases of a run in their order."""
    if config.arch != "mobilenet_v2":
        return ["all"]
    # A random gray_to_rgb learns together with the head from the first step on: that is the joint phase already.
    if config.gray_to_rgb == "random":
        first = ["all"]
    else:
        first = ["head", *(["views"] if view_count(config) else []), *(["joint"] if config.joint else [])]
    return [*first, *(["unfreeze"] if config.unfreeze else [])]


def _run_phase(
    name: str, setting: Context, earlier: list[EpochRecord], trunks: dict[str, Trunk]
) -> tuple[PhaseResult, FitResult, NDArray[np.float32] | None]:
    """Return (what the phase came to, its epochs, scores of the training images if they cost little)."""
    began = time.monotonic()
    model, config, data = setting.model, setting.config, setting.dataset
    cut = _prepare(name, model, config)
    before = model.get_weights()
    learner = model
    train: Examples = LiveExamples(data.train.images, data.train.labels, config.augment, config.seed)
    val: Examples = LiveExamples(data.val.images, data.val.labels, None, config.seed)
    if cut is not None:
        trunk, learner = split_at(model, cut)
        train, val = frozen_examples(name, trunk, cut, setting, trunks.setdefault(cut, Trunk()))
    fitted = fit(
        learner,
        train,
        val,
        _recipe(name, config, data.train),
        checkpoint=Checkpoint(setting.work / f"checkpoint-{name}.npz", f"{setting.owner} {name}")
        if setting.work
        else None,
        deadline=setting.deadline,
        on_epoch=functools.partial(_report, setting, earlier),
        workers=setting.workers,
    )
    # The untrained head or network is nothing to go back to.
    worse = name not in OPENING_PHASES and fitted.best_accuracy < fitted.start_accuracy
    helped = fitted.best_epoch > 0 and not worse
    if not helped:
        model.set_weights(before)
    result = PhaseResult(
        name,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch if helped else 0,
        val_accuracy_before=fitted.start_accuracy,
        val_accuracy_after=fitted.best_accuracy if helped else fitted.start_accuracy,
        kept=helped,
        reason=fitted.ended + ("" if helped else "; undone, as it did not help on the validation images"),
        forward=trunks[cut].used if cut else None,
        seconds=round(time.monotonic() - began, 1),
    )
    scores = score_views(learner, train) if cut == FEATURES_LAYER and isinstance(train, FeatureExamples) else None
    return result, fitted, scores


def score_views(head: keras.Model, examples: FeatureExamples) -> NDArray[np.float32]:
    """Return the head's scores, float32 (views, N, C), of every view of every image."""
    every = np.arange(len(examples.labels))
    parts = np.array_split(every, max(1, len(every) // SCORED_TOGETHER))
    scores = np.zeros((len(examples.views), len(every), head.output.shape[-1]), np.float32)
    for number, features in enumerate(examples.views):
        for chosen in parts:
            scores[number, chosen] = head(features.take(chosen).astype(np.float32), training=False)
    return scores


def _prepare(name: str, model: keras.Model, config: TrainConfig) -> str | None:
    """Set what learns in the phase, and return the layer at which the model is cut, or None."""
    if name in ("head", "views"):
        learn_above(model, FEATURES_LAYER)
        return FEATURES_LAYER
    if name == "unfreeze":
        cut = block_before(model, config.unfreeze)
        learn_above(model, cut)
        return cut
    if config.arch == "mobilenet_v2":
        learn_gray_and_head(model)
    return None


def _report(setting: Context, earlier: list[EpochRecord], record: EpochRecord, so_far: FitResult) -> None:
    config = setting.config
    total = config.epochs if record.phase in MAIN_PHASES else config.fine_epochs
    best = f"val {record.val_accuracy:.4f}, best {so_far.best_accuracy:.4f}"
    setting.progress(f"train {record.phase}", record.epoch, total, best)
    setting.on_epoch([*earlier, *so_far.history])


def _recipe(name: str, config: TrainConfig, train: Split) -> Recipe:
    main = name in MAIN_PHASES
    counts = np.bincount(train.labels)
    balanced = tuple(float(weight) for weight in len(train.labels) / (len(counts) * counts))
    return Recipe(
        phase=name,
        epochs=config.epochs if main else config.fine_epochs,
        first_rate=config.first_rate if main else config.fine_learning_rate,
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
