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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.messages.lists import counted
from edgecls.training.distributed.workers import ALONE, Workers
from edgecls.training.features.examples import Examples
from edgecls.training.history import Divergence, EpochRecord, LayerRecord
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint, Saved
from edgecls.training.step import TrainableNetwork

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
OUT_OF_TIME, ALL_DONE = "the time budget is spent", "all epochs done"


@dataclass(frozen=True)
class FitResult:
    """The result of `fit`; the model holds the weights of the best epoch."""

    history: tuple[EpochRecord, ...]  # one record for each epoch
    best_epoch: int  # the epoch with the lowest validation loss; 0 if none was better than the start
    best_loss: float  # its validation loss
    best_accuracy: float  # its validation accuracy
    start_accuracy: float  # validation accuracy before the first step
    divergence: Divergence | None  # the number that was not finite and stopped training, or None
    ended: str  # why training ended


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
    network = TrainableNetwork(model, recipe, workers)
    run = _Run(network, train, val, recipe, checkpoint, deadline, workers)
    state = _begin(run)
    while not state.ended and state.epoch <= recipe.epochs:
        _train_epoch(run, state)
        if state.divergence is None:
            _end_epoch(run, state)
        # Before `on_epoch`, so that an error in it does not lose the epoch.
        run.save(state)
        if state.divergence is None:
            on_epoch(state.history[-1], _result(state))
    network.recall_best()
    return _result(state)


@dataclass(frozen=True)
class _Run:
    """What `fit` was called with."""

    network: TrainableNetwork
    train: Examples
    val: Examples
    recipe: Recipe
    checkpoint: Checkpoint | None
    deadline: float | None
    workers: Workers

    def save(self, state: _State) -> None:
        if self.checkpoint is not None:
            self.checkpoint.write(self.network.arrays(), dataclasses.asdict(state))


def _begin(run: _Run) -> _State:
    """Return the state of the checkpoint, or of the start, and set the network to it."""
    network, workers, checkpoint = run.network, run.workers, run.checkpoint
    saved = checkpoint.read() if checkpoint is not None else None
    if workers.count > 1:
        # Also at the start, so that all workers start from the same weights.
        data = b"" if workers.index else (saved or Saved(network.arrays(), {})).to_bytes()
        saved = Saved.read(io.BytesIO(workers.broadcast(data)))
    state = _restore(network, saved, checkpoint) if saved is not None else None
    if state is not None:
        if state.ended == OUT_OF_TIME and not workers.is_late(run.deadline):
            state.ended = ""
        return state
    state = _State()
    start_loss, state.start_accuracy = validate(network, run.val, run.recipe.batch_size)
    if run.recipe.start_counts:
        state.best_loss, state.best_accuracy = start_loss, state.start_accuracy
    network.remember_best()
    return state


def _restore(network: TrainableNetwork, saved: Saved, checkpoint: Checkpoint | None) -> _State | None:
    """Set the network to what was saved, and return the saved state; None if no step was made before."""
    try:
        network.restore(saved.arrays)
        return _State.from_json(saved.state) if saved.state else None
    # An undamaged file with other content, as of an older edgecls.
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise (checkpoint or Checkpoint(Path("of the first worker"))).refuse(error) from error


def validate(network: TrainableNetwork, val: Examples, batch_size: int) -> tuple[float, float]:
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


def _train_epoch(run: _Run, state: _State) -> None:
    """Run the remaining steps of an epoch; the deadline or a NaN ends it early, with the reason in `state`."""
    network, train, recipe, sums = run.network, run.train, run.recipe, state.running
    count, size = len(train.labels), recipe.batch_size
    steps = -(-count // size)
    order = np.random.default_rng([recipe.seed, state.epoch]).permutation(count)
    watched = set(range(0, steps, max(1, steps // WATCHED_STEPS)))
    began, before = time.monotonic(), sums.seconds
    saved = began
    for step in range(sums.step, steps):
        chosen = order[step * size : (step + 1) * size]
        network.learning_rate = recipe.learning_rate_at((state.epoch - 1) * steps + step, steps, state.rate_factor)
        out = network.train_step(train.batch(state.epoch, chosen), train.labels[chosen], watch=step in watched)
        state.divergence = network.find_divergence(out, recipe.phase, state.epoch, step)
        if state.divergence:
            state.ended = f"a {state.divergence.what} that is not finite"
            return
        _add_step(sums, out, len(chosen))
        now = time.monotonic()
        sums.seconds = before + now - began
        if run.workers.is_late(run.deadline):
            state.ended = OUT_OF_TIME
            return
        if now - saved > CHECKPOINT_SECONDS and sums.step < steps:
            run.save(state)
            saved = now


def _add_step(sums: _Epoch, out: Any, images: int) -> None:
    sums.step += 1
    sums.loss += out.loss
    sums.largest_loss = max(sums.largest_loss, out.loss)
    sums.correct += out.correct
    sums.seen += images
    if out.updates is not None:
        sums.gradients.append([float(value) for value in out.gradients])
        sums.updates.append([float(value) for value in out.updates])


def _end_epoch(run: _Run, state: _State) -> None:
    """Validate, record the epoch, and judge it."""
    network, val, recipe, sums = run.network, run.val, run.recipe, state.running
    began = time.monotonic()
    val_loss, val_accuracy = validate(network, val, recipe.batch_size)
    bad = network.find_bad_layer()
    if bad or not math.isfinite(val_loss):
        # A step with a finite loss can cause this, and a ReLU can hide it from the loss.
        state.divergence = Divergence(recipe.phase, state.epoch, sums.step - 1, "weights", bad)
        state.ended = "weights that are not finite"
        return
    watched = zip(network.layer_names, np.mean(sums.gradients, 0), np.mean(sums.updates, 0), strict=True)
    probe = _batches(min(PROBE_IMAGES, len(val.labels)), recipe.batch_size)
    dead = network.dead_fractions(val.batch(0, chosen) for chosen in probe)
    record = EpochRecord(
        phase=recipe.phase,
        epoch=state.epoch,
        train_loss=sums.loss / sums.step,
        train_accuracy=sums.correct / sums.seen,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=network.learning_rate,
        largest_step_loss=sums.largest_loss,
        seconds=round(sums.seconds + time.monotonic() - began, 3),
        layers=tuple(LayerRecord(name, float(norm), float(ratio), dead.get(name)) for name, norm, ratio in watched),
    )
    state.history.append(record)
    _judge_epoch(network, recipe, state)
    state.epoch += 1
    state.running = _Epoch()


def _judge_epoch(network: TrainableNetwork, recipe: Recipe, state: _State) -> None:
    """Keep the weights of the latest epoch if they are the best; else lower the rate, or set `state.ended` to stop."""
    latest = state.history[-1]
    if latest.val_loss < state.best_loss:
        state.best_loss, state.best_accuracy, state.best_epoch = latest.val_loss, latest.val_accuracy, latest.epoch
        state.waited = 0
        network.remember_best()
        return
    state.waited += 1
    if state.waited % PLATEAU_EPOCHS == 0:
        state.rate_factor *= PLATEAU_FACTOR
        if recipe.schedule == "plateau":
            network.recall_best()
    if state.waited >= recipe.patience and not state.ended:
        state.ended = f"no better validation loss for {counted(recipe.patience, 'epoch')}"


def _result(state: _State) -> FitResult:
    return FitResult(
        tuple(state.history),
        state.best_epoch,
        state.best_loss,
        state.best_accuracy,
        state.start_accuracy,
        state.divergence,
        state.ended or ALL_DONE,
    )
