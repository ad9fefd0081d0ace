"""The training loop of one phase: steps, validation, early stopping, and a checkpoint that resumes exactly.

Order of the data, augmented copies and learning rates depend on (seed, epoch, step) alone. So a checkpoint needs no
random state but that of the dropout layers, which is one of their variables.
"""

from __future__ import annotations

import dataclasses
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecls.training.distributed.workers import ALONE, Workers
from edgecls.training.history import Divergence, EpochRecord, LayerRecord
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint, Saved
from edgecls.training.step import Network

if TYPE_CHECKING:
    import keras

# Update ratios need the weights before and after a step, so only some steps of an epoch are measured.
WATCHED_STEPS = 5
# Longer epochs write checkpoints before they end.
CHECKPOINT_SECONDS = 120.0
# A channel that is zero for all of these images counts as dead.
PROBE_IMAGES = 256
# "plateau": after this many epochs without a better validation loss, back to the best weights at half the rate.
PLATEAU_EPOCHS, PLATEAU_FACTOR = 5, 0.5
OUT_OF_TIME = "the time budget is spent"


class Examples(Protocol):
    """Labelled inputs of a network, drawn batch by batch."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the labels, int64 (N,)."""

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Return the network's inputs for the examples `chosen` in epoch `epoch`, from 1; 0 is for validation."""


@dataclass(frozen=True)
class FitResult:
    """The result of `fit`; the model holds the weights of the best epoch.

    Attributes:
        history: one record for each epoch.
        best_epoch: the epoch with the lowest validation loss; 0 if none was better than the start.
        best_loss: its validation loss.
        best_accuracy: its validation accuracy.
        start_accuracy: validation accuracy before the first step.
        divergence: the number that was not finite and stopped training, or None.
        ended: why training ended.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_loss: float
    best_accuracy: float
    start_accuracy: float
    divergence: Divergence | None
    ended: str


@dataclass
class _Epoch:
    """Running sums of the current epoch."""

    step: int = 0
    loss: float = 0.0
    largest_loss: float = 0.0
    correct: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    gradients: list[list[float]] = field(default_factory=list)
    updates: list[list[float]] = field(default_factory=list)


@dataclass
class _State:
    """The state of a phase; a checkpoint holds it together with the weights."""

    epoch: int = 1
    best_epoch: int = 0
    best_loss: float = math.inf
    best_accuracy: float = 0.0
    start_accuracy: float = 0.0
    waited: int = 0
    rate_factor: float = 1.0
    history: list[EpochRecord] = field(default_factory=list)
    running: _Epoch = field(default_factory=_Epoch)
    ended: str = ""
    divergence: Divergence | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> _State:
        divergence = Divergence(**saved["divergence"]) if saved["divergence"] else None
        history = [EpochRecord.from_json(record) for record in saved["history"]]
        return cls(**{**saved, "history": history, "running": _Epoch(**saved["running"]), "divergence": divergence})


def fit(
    model: keras.Model,
    train: Examples,
    val: Examples,
    recipe: Recipe,
    *,
    checkpoint: Checkpoint | None = None,
    deadline: float | None = None,
    on_epoch: Callable[[EpochRecord, FitResult], None] = lambda record, so_far: None,
    workers: Workers = ALONE,
) -> FitResult:
    """Train the trainable layers of `model`, which ends in a softmax Dense layer, and return the result.

    Args:
        model: gets the weights of its best epoch, or keeps its own if no epoch was better.
        train: examples to learn from.
        val: examples that choose the best epoch.
        recipe: how to learn.
        checkpoint: where to save, and to resume from; None saves nothing.
        deadline: `time.monotonic()` at which to stop with the best weights so far.
        on_epoch: called after each epoch.
        workers: that train together; all pass the same arguments, but only the first needs `checkpoint`.
    """
    network = Network(model, recipe, workers)
    state = _begin(network, val, recipe, checkpoint, deadline, workers)
    while not state.ended and state.epoch <= recipe.epochs:
        _train_epoch(network, train, recipe, state, checkpoint, deadline, workers)
        if state.divergence is None:
            _end_epoch(network, val, recipe, state)
        # Before `on_epoch`, so that an error in it does not lose the epoch.
        if checkpoint is not None:
            checkpoint.write(network.arrays(), state.to_json())
        if state.divergence is None:
            on_epoch(state.history[-1], _result(state))
    network.recall_best()
    return _result(state)


def _begin(
    network: Network,
    val: Examples,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    deadline: float | None,
    workers: Workers,
) -> _State:
    """Return the state of the checkpoint, or of the start, and set the network to it."""
    saved = checkpoint.read() if checkpoint is not None else None
    if workers.count > 1:
        # Also at the start, so that all workers start from the same weights.
        data = b"" if workers.index else (saved or Saved(network.arrays(), {})).to_bytes()
        saved = Saved.read(io.BytesIO(workers.broadcast(data)))
    resumed = _restore(network, saved, checkpoint) if saved is not None else None
    if resumed is not None:
        state = resumed
        if state.ended == OUT_OF_TIME and not workers.is_late(deadline):
            state.ended = ""
        return state
    state = _State()
    start_loss, state.start_accuracy = validate(network, val, recipe.batch_size)
    if recipe.start_counts:
        state.best_loss, state.best_accuracy = start_loss, state.start_accuracy
    network.remember_best()
    return state


def _restore(network: Network, saved: Saved, checkpoint: Checkpoint | None) -> _State | None:
    """Set the network to what was saved, and return the saved state; None if no step was made before."""
    try:
        network.restore(saved.arrays)
        return _State.from_json(saved.state) if saved.state else None
    # An undamaged file with other content, as of an older edgecls.
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise (checkpoint or Checkpoint(Path("of the first worker"))).refuse(error) from error


def validate(network: Network, val: Examples, batch_size: int) -> tuple[float, float]:
    """Return (mean cross-entropy, accuracy) of the network on `val`."""
    loss = correct = 0.0
    for chosen in _batches(len(val.labels), batch_size):
        batch_loss, batch_correct = network.test_step(val.batch(0, chosen), val.labels[chosen])
        loss, correct = loss + batch_loss, correct + batch_correct
    return loss / len(val.labels), correct / len(val.labels)


def _batches(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    # No larger than in training: feature maps of a whole network need gigabytes for more images.
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def learning_rate_at(recipe: Recipe, step: int, epoch_steps: int, factor: float = 1.0) -> float:
    """Return the learning rate of step `step` of the phase, from 0: warm-up, then the schedule."""
    warmup, total = recipe.warmup_epochs * epoch_steps, recipe.epochs * epoch_steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
    return recipe.learning_rate * (factor if recipe.schedule == "plateau" else 1)


def _train_epoch(
    network: Network,
    train: Examples,
    recipe: Recipe,
    state: _State,
    checkpoint: Checkpoint | None,
    deadline: float | None,
    workers: Workers,
) -> None:
    """Run the remaining steps of an epoch; the deadline or a NaN ends it early, with the reason in `state`."""
    count, size, run = len(train.labels), recipe.batch_size, state.running
    steps = -(-count // size)
    order = np.random.default_rng([recipe.seed, state.epoch]).permutation(count)
    watched = set(range(0, steps, max(1, steps // WATCHED_STEPS)))
    began, before = time.monotonic(), run.seconds
    saved = began
    for step in range(run.step, steps):
        chosen = order[step * size : (step + 1) * size]
        network.learning_rate = learning_rate_at(recipe, (state.epoch - 1) * steps + step, steps, state.rate_factor)
        out = network.train_step(train.batch(state.epoch, chosen), train.labels[chosen], watch=step in watched)
        state.divergence = network.find_divergence(out, recipe.phase, state.epoch, step)
        if state.divergence:
            state.ended = f"a {state.divergence.what} that is not finite"
            return
        _add_step(run, out, len(chosen))
        now = time.monotonic()
        run.seconds = before + now - began
        if workers.is_late(deadline):
            state.ended = OUT_OF_TIME
            return
        if checkpoint is not None and now - saved > CHECKPOINT_SECONDS and run.step < steps:
            checkpoint.write(network.arrays(), state.to_json())
            saved = now


def _add_step(run: _Epoch, out: Any, images: int) -> None:
    run.step += 1
    run.loss += out.loss
    run.largest_loss = max(run.largest_loss, out.loss)
    run.correct += out.correct
    run.seen += images
    if out.updates is not None:
        run.gradients.append([float(value) for value in out.gradients])
        run.updates.append([float(value) for value in out.updates])


def _end_epoch(network: Network, val: Examples, recipe: Recipe, state: _State) -> None:
    """Validate, record the epoch, keep the weights if they are the best, and set `state.ended` to stop."""
    began = time.monotonic()
    run = state.running
    val_loss, val_accuracy = validate(network, val, recipe.batch_size)
    bad = network.find_bad_layer()
    if bad or not math.isfinite(val_loss):
        # A step with a finite loss can cause this, and a ReLU can hide it from the loss.
        state.divergence = Divergence(recipe.phase, state.epoch, run.step - 1, "weights", bad)
        state.ended = "weights that are not finite"
        return
    watched = zip(network.layer_names, np.mean(run.gradients, 0), np.mean(run.updates, 0), strict=True)
    probe = _batches(min(PROBE_IMAGES, len(val.labels)), recipe.batch_size)
    dead = network.dead_fractions(val.batch(0, chosen) for chosen in probe)
    record = EpochRecord(
        phase=recipe.phase,
        epoch=state.epoch,
        train_loss=run.loss / run.step,
        train_accuracy=run.correct / run.seen,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=network.learning_rate,
        largest_step_loss=run.largest_loss,
        seconds=round(run.seconds + time.monotonic() - began, 3),
        layers=tuple(LayerRecord(name, float(norm), float(ratio), dead.get(name)) for name, norm, ratio in watched),
    )
    state.history.append(record)
    if val_loss < state.best_loss:
        state.best_loss, state.best_accuracy, state.best_epoch = val_loss, val_accuracy, state.epoch
        state.waited = 0
        network.remember_best()
    else:
        state.waited += 1
        if state.waited % PLATEAU_EPOCHS == 0:
            state.rate_factor *= PLATEAU_FACTOR
            if recipe.schedule == "plateau":
                network.recall_best()
        if state.waited >= recipe.patience and not state.ended:
            state.ended = f"no better validation loss for {recipe.patience} epochs"
    state.epoch += 1
    state.running = _Epoch()


def _result(state: _State) -> FitResult:
    return FitResult(
        tuple(state.history),
        state.best_epoch,
        state.best_loss,
        state.best_accuracy,
        state.start_accuracy,
        state.divergence,
        state.ended or "all epochs done",
    )
