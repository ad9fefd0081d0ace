"""What the losses and accuracies of the epochs say of the fit. Imports numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import CLASSIFIER_LEARNING_RATE, NETWORK_LEARNING_RATE, TrainConfig
from edgecls.training.diagnosis.finding import Finding, Scored, bounded, likely_range
from edgecls.training.diagnosis.layers import LEARNS, layer_values, smaller_rate
from edgecls.training.history import EpochRecord

# Fewer epochs are no curve.
MIN_EPOCHS = 3
# Values at the end of a curve are means over this many epochs: one epoch is noisy.
END_EPOCHS = 3
# A network that guesses loses ln(C); one far above it is wrong and sure of it. Losses are judged in units of ln(C).
ABOVE_GUESSING = 1.5
# Dropout and augmentation move an epoch's loss by a few percent of ln(C); steps that are too large by far more.
RISE, MIN_RISES, RISING_SHARE = 0.25, 2, 0.3
# A batch of hard images may lose a few times the mean; a spike is beyond what the untrained network lost.
SPIKE_FACTOR, SPIKE_OVER_MEAN = 3.0, 5.0
# One spike is an accident, more are a habit.
MIN_SPIKES = 2
# Loss, in units of ln(C), that counts as nothing learned.
NO_FALL = 0.9
# A step should change the weights by about 1e-3 of themselves (Stanford CS231n, "Ratio of weights:updates").
LOW_UPDATE, HIGH_UPDATE = 3e-4, 1e-2
# Of the first epoch's loss: a network with the right steps has halved it by the end, unless it stopped learning.
SLOW_FALL = 0.5
# Without watched layers: this share of the usual first step size.
LOW_RATE_SHARE = 0.03
# Skill is 0 for guessing and 1 for no mistake. Little of it is an illness; with much of it nothing needs mending.
NO_SKILL, LITTLE_SKILL, GOOD_SKILL = 0.1, 0.5, 0.9
# Points of accuracy between training and validation images; the second is enough by itself.
GAP, WIDE_GAP = 0.10, 0.20
# Of the validation loss over its lowest.
LOSS_RISE = 1.2
# Fall of both losses in the last fifth of the epochs that promises more.
STILL_FALLING = 0.05
# A loss that is exactly zero.
_TINY = 1e-9


@dataclass(frozen=True)
class Guess:
    """What a network reaches that does not look at the images: `loss` (cross-entropy) and `accuracy` (0..1)."""

    loss: float
    accuracy: float

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]], class_count: int, *, balanced: bool) -> Guess:
        """Return the guess of a network trained on `labels`, int (N,), maybe empty."""
        largest = np.bincount(labels).max() / len(labels) if len(labels) else 0.0
        # Class weights make naming the largest class no better than any other.
        return cls(math.log(class_count), 1 / class_count if balanced or not len(labels) else float(largest))


def rate_findings(
    records: Sequence[EpochRecord], before: EpochRecord | None, config: TrainConfig, guess: Guess
) -> Iterator[Finding]:
    """Yield what the curves of one phase say of steps that are too large; `before` ended the phase before it."""
    learns, option = LEARNS.get(records[0].phase, records[0].phase), smaller_rate(records[0].phase, config)
    spikes = _spikes(records, guess.loss)
    signs = [*_ruin(records, before, guess.loss), *_too_high_signs(records, guess.loss)]
    if spikes:
        worst = max(spikes, key=lambda record: record.largest_step_loss)
        yield Finding(
            "loss-spikes",
            "warning" if len(spikes) >= MIN_SPIKES else "note",
            f"While training {learns} the loss of a single step jumped to {worst.largest_step_loss:.3g} in epoch "
            f"{worst.epoch} (mean before: {records[0].train_loss:.3g} in epoch 1); so in {len(spikes)} of "
            f"{len(records)} epochs.",
            f"--clip-norm 1, {option}, a larger --batch-size; look for damaged images.",
        )
    if signs:
        yield Finding(
            "learning-rate-too-high",
            "warning",
            f"The steps that trained {learns} were too large: {'; '.join(signs)}.",
            f"{option}, --warmup-epochs 2, or --clip-norm 1.",
        )


def _spikes(records: Sequence[EpochRecord], guess: float) -> list[EpochRecord]:
    least = SPIKE_FACTOR * max(guess, records[0].train_loss)
    return [
        record
        for before, record in zip(records, records[1:], strict=False)
        if record.largest_step_loss > max(least, SPIKE_OVER_MEAN * before.train_loss)
    ]


def _ruin(records: Sequence[EpochRecord], before: EpochRecord | None, guess: float) -> Iterator[str]:
    """Yield that a phase threw away what the phase before it had learned."""
    if before is not None and before.train_loss < guess < records[0].train_loss:
        yield f"the training loss rose from {before.train_loss:.3g} to {records[0].train_loss:.3g} in the first epoch"


def _too_high_signs(records: Sequence[EpochRecord], guess: float) -> list[str]:
    train, val = curve(records, "train_loss"), curve(records, "val_loss")
    updates = layer_values(records, "update_ratio")
    if len(records) < MIN_EPOCHS or (updates.size and np.median(updates, axis=1).max() < HIGH_UPDATE):
        # Whatever the loss does, it is not for large steps.
        return []
    signs = []
    both = np.minimum(train, val)[1:]
    if np.median(both) > ABOVE_GUESSING * guess:
        signs.append(f"the loss stayed near {np.median(both):.3g}, though guessing gives {guess:.3g}")
    rises = int((np.diff(train) > RISE * guess).sum())
    if rises >= max(MIN_RISES, RISING_SHARE * (len(train) - 1)):
        signs.append(f"the training loss jumped up in {rises} of {len(train) - 1} epochs")
    if records[0].largest_step_loss > SPIKE_FACTOR * guess and train[-END_EPOCHS:].mean() > NO_FALL * guess:
        signs.append(
            f"the first steps threw the loss up to {records[0].largest_step_loss:.3g}, and it never fell below guessing"
        )
    return signs


def progress_findings(
    records: Sequence[EpochRecord], config: TrainConfig, guess: Guess, train: Scored | None
) -> Iterator[Finding]:
    """Yield what the curves of the main phase say of its pace: steps too small, or too few of them."""
    if len(records) < MIN_EPOCHS or _skill(records, guess, train) >= GOOD_SKILL:
        return
    learns = LEARNS.get(records[0].phase, records[0].phase)
    losses = curve(records, "train_loss")
    pace = f"the training loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} epochs"
    updates = layer_values(records[: -(-len(records) // 2)], "update_ratio")
    rate = max(record.learning_rate for record in records)
    slow = losses[-1] > SLOW_FALL * losses[0]
    if slow and updates.size and np.median(updates) < LOW_UPDATE:
        why = f"each step changed the weights by {np.median(updates):.1g} of themselves, where 0.001 is usual"
    elif (
        slow
        and not updates.size
        and rate
        < LOW_RATE_SHARE * (CLASSIFIER_LEARNING_RATE if records[0].phase == "classifier" else NETWORK_LEARNING_RATE)
    ):
        why = f"the first step size was {rate:.1g}"
    else:
        last = max(1, len(records) // 5)
        falls = [_fall(values, last) for values in (losses, curve(records, "val_loss"))]
        if min(falls) > STILL_FALLING:
            yield Finding(
                "too-few-epochs",
                "note",
                f"Training {learns} ended while it still got better: {pace}, the validation loss fell by "
                f"{falls[1]:.0%} in the last {last}.",
                f"--epochs {2 * len(records)}, or a longer --time-budget.",
            )
        return
    yield Finding(
        "learning-rate-too-low",
        "warning",
        f"Training {learns} is too slow: {pace}; {why}.",
        f"--learning-rate {config.main_learning_rate * 10:.2g}; more --epochs.",
    )


def _fall(values: NDArray[np.float64], last: int) -> float:
    """Return by what share the lowest of the `last` values is below the lowest before them."""
    return 1 - float(values[-last:].min()) / max(float(values[:-last].min()), _TINY)


def generalisation_findings(
    records: Sequence[EpochRecord], config: TrainConfig, guess: Guess, train: Scored | None, val: Scored | None
) -> Iterator[Finding]:
    """Yield overfitting or underfitting of the last phase."""
    if len(records) < MIN_EPOCHS:
        return
    yield from _overfitting(records, config, train, val)
    skill = _skill(records, guess, train)
    if skill < LITTLE_SKILL:
        accuracy, loss = _end(records, "train_accuracy"), _end(records, "train_loss")
        yield Finding(
            "underfitting",
            "error" if skill < NO_SKILL else "warning",
            f"The network does not even learn the training images: {accuracy:.0%} of them right at the end, where "
            f"guessing gives {guess.accuracy:.0%}; training loss {loss:.3g}.",
            _underfitting_remedy(config),
        )


def curve(records: Sequence[EpochRecord], name: str) -> NDArray[np.float64]:
    """Return a number of each epoch, float64 (epochs,); what is not finite counts as `HUGE`."""
    return bounded([getattr(record, name) for record in records])


def _end(records: Sequence[EpochRecord], name: str) -> float:
    return float(curve(records, name)[-END_EPOCHS:].mean())


def _skill(records: Sequence[EpochRecord], guess: Guess, train: Scored | None) -> float:
    """Return how far accuracy got from guessing (0) to no mistake (1), the best way it was measured."""
    accuracies = [_end(records, "train_accuracy"), _end(records, "val_accuracy")]
    if train is not None and len(train.labels):
        accuracies.append(train.accuracy)
    return (max(accuracies) - guess.accuracy) / (1 - guess.accuracy) if guess.accuracy < 1 else 1.0


def _overfitting(
    records: Sequence[EpochRecord], config: TrainConfig, train: Scored | None, val: Scored | None
) -> Iterator[Finding]:
    """Judge by the end of training, or by the kept weights where dropout and augmentation hid the gap."""
    pairs = [(_end(records, "train_accuracy"), _end(records, "val_accuracy"))]
    if train is not None and val is not None and len(train.labels) and len(val.labels):
        pairs.append((train.accuracy, val.accuracy))
    learned, held = max(pairs, key=lambda pair: pair[0] - pair[1])
    gap = learned - held
    if val is not None and len(val.labels):
        # As many validation images as there are must be enough to tell the gap from chance.
        images = len(val.labels)
        gap = min(gap, GAP + learned - likely_range(round(held * images), images)[1])
    losses = curve(records, "val_loss")
    best = int(losses.argmin())
    ended = best < len(losses) - END_EPOCHS
    rise = _end(records, "val_loss") / max(float(losses[best]), _TINY) if ended else 1.0
    if gap >= WIDE_GAP or (gap >= GAP and rise >= LOSS_RISE):
        grown = f"; the validation loss was lowest in epoch {best + 1} and rose to {rise:.1f} times that"
        yield Finding(
            "overfitting",
            "warning",
            f"The network knows its training images by heart: {learned:.0%} of them right, {held:.0%} of the "
            f"validation images{grown if rise >= LOSS_RISE else ''}. The weights of the best epoch were kept.",
            _overfitting_remedy(config),
        )


def _overfitting_remedy(config: TrainConfig) -> str:
    """Return what the lecture advises, what is not in use yet first."""
    tries = ["more images"]
    tries += [] if config.augment else ["--augment"]
    tries.append(f"--dropout {min(0.5, config.dropout + 0.2):.1g}")
    tries += [] if config.weight_decay or config.l2 else ["--weight-decay 1e-3 or --l2 1e-4"]
    tries += [] if config.label_smoothing else ["--label-smoothing 0.1"]
    smaller = "a smaller network (--alpha)" if config.arch == "mobilenet_v2" else "fewer or smaller layers"
    tries += [smaller, "and make sure that the validation images show what the training images show"]
    return ", ".join(tries) + "."


def _underfitting_remedy(config: TrainConfig) -> str:
    """Return less regularisation and more network, as far as there is any left."""
    tries = []
    if config.arch == "mobilenet_v2":
        tries += ["--unfreeze 3" if not config.unfreeze else "a larger --unfreeze", "a larger --image-size"]
        tries += ["--alpha 1.0"] if config.alpha < 1 else []
    else:
        tries.append("more or larger layers (--filters, --hidden), or --arch mobilenet_v2")
    tries += ["less --dropout"] if config.dropout else []
    tries += ["less --l2 and --weight-decay"] if config.l2 or config.weight_decay else []
    tries += ["milder augmentation (--no-augment)"] if config.augment else []
    tries += ["more --epochs", "and look whether the classes can be told apart in the images"]
    return ", ".join(tries) + "."
