"""Rules about the losses and accuracies of the epochs. Imports numpy only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgecls.config import TrainConfig
from edgecls.config.choices import CLASSIFIER_LEARNING_RATE, NETWORK_LEARNING_RATE
from edgecls.messages.lists import counted
from edgecls.messages.numbers import percent
from edgecls.training.diagnosis.evidence import END_EPOCHS, MIN_EPOCHS, Evidence, Phase
from edgecls.training.diagnosis.finding import Problem, confidence_interval
from edgecls.training.phase_names import trained_part

# Losses are judged in units of ln(C), the baseline; a network far above it gives incorrect classes high scores.
ABOVE_BASELINE = 1.5
# Dropout and augmentation move an epoch's loss by a few percent of ln(C); a learning rate that is too high by far more.
RISE, MIN_RISES, RISING_SHARE = 0.25, 2, 0.3
# A batch of hard images may lose a few times the mean; a spike is beyond what the untrained network lost.
SPIKE_FACTOR, SPIKE_OVER_MEAN = 3.0, 5.0
# Loss, in units of ln(C), that counts as nothing learned.
NO_FALL = 0.9
# A step should change the weights by about 1e-3 of themselves (Stanford CS231n, "Ratio of weights:updates").
LOW_UPDATE, HIGH_UPDATE = 3e-4, 1e-2
# Of the first epoch's loss: at a suitable learning rate it has halved by the end, unless the network stopped learning.
SLOW_FALL = 0.5
# Without watched layers: this fraction of the usual learning rate is too low.
LOW_RATE_SHARE = 0.03
# Of normalized accuracy: below the first two a network underfits; above the third its pace is no problem.
NOTHING_LEARNED, LITTLE_LEARNED, WELL_LEARNED = 0.1, 0.5, 0.9
# Points of accuracy between training and validation images; the second is enough by itself.
GAP, WIDE_GAP = 0.10, 0.20
# Of the validation loss over its lowest.
LOSS_RISE = 1.2
# If both losses fell by more in the last fifth of the epochs, more epochs will help.
STILL_FALLING = 0.05
_TINY = 1e-9  # replaces a loss of zero in a denominator


def check_spikes(run: Evidence) -> Iterator[Problem]:
    """Yield where the loss of single steps was far above the others."""
    for phase in run.phases:
        records = phase.records
        least = SPIKE_FACTOR * max(run.baseline_loss, records[0].train_loss)
        spikes = [
            record
            for before, record in zip(records, records[1:], strict=False)
            if record.largest_step_loss > max(least, SPIKE_OVER_MEAN * before.train_loss)
        ]
        if not spikes:
            continue
        worst = max(spikes, key=lambda record: record.largest_step_loss)
        yield (
            # One spike may be chance.
            "warning" if len(spikes) > 1 else "note",
            f"While training {trained_part(phase.name)}, the loss of a single step jumped to "
            f"{worst.largest_step_loss:.3g} in epoch {worst.epoch} (mean of epoch 1: {records[0].train_loss:.3g}). "
            f"This happened in {len(spikes)} of {len(records)} epochs.",
            f"--clip-norm 1, {run.lower_rate(phase.name)}, a larger --batch-size; look for damaged images.",
        )


def check_high_rate(run: Evidence) -> Iterator[Problem]:
    """Yield that a phase made the network worse, or did not let it settle."""
    for phase in run.phases:
        signs = [*_forgetting(phase, run.baseline_loss), *_unsettled(phase, run.baseline_loss)]
        if signs:
            yield (
                "warning",
                f"The learning rate of {trained_part(phase.name)} was too high: {'; '.join(signs)}.",
                f"{run.lower_rate(phase.name)}, --warmup-epochs 2, or --clip-norm 1.",
            )


def _forgetting(phase: Phase, baseline: float) -> Iterator[str]:
    """Yield that a phase lost what the phase before it had learned."""
    before, first = phase.before, phase.records[0]
    if before is not None and before.train_loss < baseline < first.train_loss:
        yield f"the training loss rose from {before.train_loss:.3g} to {first.train_loss:.3g} in the first epoch"


def _unsettled(phase: Phase, baseline: float) -> Iterator[str]:
    train, updates, first = phase.curve("train_loss"), phase.layers("update_ratio"), phase.records[0]
    if len(train) < MIN_EPOCHS or (updates.size and np.median(updates, axis=1).max() < HIGH_UPDATE):
        # Steps this small cannot be the cause, whatever the loss does.
        return
    lower = float(np.median(np.minimum(train, phase.curve("val_loss"))[1:]))
    if lower > ABOVE_BASELINE * baseline:
        yield f"the loss stayed near {lower:.3g}, the baseline is {baseline:.3g}"
    rises = int((np.diff(train) > RISE * baseline).sum())
    if rises >= max(MIN_RISES, RISING_SHARE * (len(train) - 1)):
        yield f"the training loss jumped up in {rises} of {len(train) - 1} epochs"
    if first.largest_step_loss > SPIKE_FACTOR * baseline and phase.end("train_loss") > NO_FALL * baseline:
        yield f"the first steps raised the loss to {first.largest_step_loss:.3g}, and it never fell below the baseline"


def check_low_rate(run: Evidence) -> Iterator[Problem]:
    """Yield that training was slow because its steps were small."""
    phase = _unfinished(run)
    if phase is None or (losses := phase.curve("train_loss"))[-1] <= SLOW_FALL * losses[0]:
        return
    updates = phase.layers("update_ratio")[: -(-len(losses) // 2)]
    rate = phase.curve("learning_rate").max()
    usual = CLASSIFIER_LEARNING_RATE if phase.name == "classifier" else NETWORK_LEARNING_RATE
    low, why = rate < LOW_RATE_SHARE * usual, f"the learning rate was {rate:.1g}"
    if updates.size:
        low = np.median(updates) < LOW_UPDATE
        why = f"each step changed the weights by {np.median(updates):.1g} of themselves, where 0.001 is usual"
    if low:
        text = f"Training {trained_part(phase.name)} is too slow: {_pace(phase)}; {why}."
        yield "warning", text, f"--learning-rate {run.config.main_learning_rate * 10:.2g}; more --epochs."


def check_epochs(run: Evidence) -> Iterator[Problem]:
    """Yield that training ended while the losses still fell."""
    if (phase := _unfinished(run)) is None:
        return
    last = max(1, len(phase.records) // 5)
    # By what fraction the lowest of the last values is below the lowest before them.
    curves = phase.curve("train_loss"), phase.curve("val_loss")
    falls = [1 - float(values[-last:].min()) / max(float(values[:-last].min()), _TINY) for values in curves]
    if min(falls) > STILL_FALLING:
        yield (
            "note",
            f"Training {trained_part(phase.name)} ended while it still improved: {_pace(phase)}, the validation loss "
            f"fell by {percent(falls[1], 0)} in the last {last}.",
            f"--epochs {2 * len(phase.records)}, or a longer --time-budget.",
        )


def check_short(run: Evidence) -> Iterator[Problem]:
    """Yield that the only phase had so few epochs that it cannot have settled, and made many mistakes."""
    if run.is_short and (accuracy := run.phases[0].end("val_accuracy")) < WELL_LEARNED:
        phase, epochs = run.phases[0], len(run.phases[0].records)
        yield (
            "warning",
            f"Training {trained_part(phase.name)} ended after {counted(epochs, 'epoch')}, before "
            f"it could settle: {percent(accuracy, 0)} of the validation images are correct, validation loss "
            f"{phase.end('val_loss'):.3g} (without looking at the images: {run.baseline_loss:.3g}).",
            f"{run.more_epochs}, or a longer --time-budget.",
        )


def _unfinished(run: Evidence) -> Phase | None:
    """Return the main phase, if accuracy can still rise much."""
    phase = run.main_phase
    return phase if phase and run.normalized_accuracy(phase) < WELL_LEARNED else None


def _pace(phase: Phase) -> str:
    losses = phase.curve("train_loss")
    return f"the training loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} epochs"


def check_underfitting(run: Evidence) -> Iterator[Problem]:
    """Yield that the last phase did not learn the training images."""
    phase = run.last_phase
    if phase and (learned := run.normalized_accuracy(phase)) < LITTLE_LEARNED:
        yield (
            "error" if learned < NOTHING_LEARNED else "warning",
            f"The network does not learn the training images: {percent(phase.end('train_accuracy'), 0)} of them are "
            f"correct at the end, the baseline is {percent(run.baseline_accuracy, 0)}; training loss "
            f"{phase.end('train_loss'):.3g}.",
            _underfitting_remedy(run.config),
        )


def check_overfitting(run: Evidence) -> Iterator[Problem]:
    """Judge by the end of training, and by the kept weights where dropout and augmentation hid the gap."""
    if (phase := run.last_phase) is None:
        return
    pairs = [(phase.end("train_accuracy"), phase.end("val_accuracy"))]
    pairs += [(run.train.accuracy, run.val.accuracy)] if run.train and run.val else []
    learned, held = max(pairs, key=lambda pair: pair[0] - pair[1])
    gap = learned - held
    if run.val:
        # The gap must be larger than chance allows with this number of validation images.
        images = len(run.val.labels)
        gap = min(gap, GAP + learned - confidence_interval(round(held * images), images)[1])
    losses = phase.curve("val_loss")
    best = int(losses.argmin())
    rise = phase.end("val_loss") / max(float(losses[best]), _TINY) if best < len(losses) - END_EPOCHS else 1.0
    if gap >= WIDE_GAP or (gap >= GAP and rise >= LOSS_RISE):
        grown = f"; the validation loss was lowest in epoch {best + 1} and rose to {rise:.1f} times that"
        yield (
            "warning",
            f"The network overfits: {percent(learned, 0)} of the training images are correct, {percent(held, 0)} of "
            f"the validation images{grown if rise >= LOSS_RISE else ''}. The weights of the best epoch were kept.",
            _overfitting_remedy(run.config),
        )


def _overfitting_remedy(config: TrainConfig) -> str:
    # A solver has chosen the strength of its penalty itself.
    steps = config.classifier_solver == "sgd" or bool(config.unfreeze or config.joint)
    return _list_applying(
        (True, "more images"),
        (not config.augment, "--augment"),
        (steps, f"--dropout {min(0.5, config.dropout + 0.2):.1g}"),
        (steps and not (config.weight_decay or config.l2), "--weight-decay 1e-3 or --l2 1e-4"),
        (steps and not config.label_smoothing, "--label-smoothing 0.1"),
        (True, "a smaller network (--alpha)" if config.arch == "mobilenet_v2" else "fewer or smaller layers"),
        (True, "and make sure that the validation images show what the training images show"),
    )


def _underfitting_remedy(config: TrainConfig) -> str:
    backbone = config.arch == "mobilenet_v2"
    return _list_applying(
        (backbone, "a larger --unfreeze" if config.unfreeze else "--unfreeze 3"),
        (backbone, "a larger --image-size"),
        (backbone and config.alpha < 1, "--alpha 1.0"),
        (not backbone, "more or larger layers (--filters, --hidden), or --arch mobilenet_v2"),
        (bool(config.dropout), "less --dropout"),
        (bool(config.l2 or config.weight_decay), "less --l2 and --weight-decay"),
        (bool(config.augment), "milder augmentation (--no-augment)"),
        (True, "more --epochs"),
        (True, "and check that a person can tell the classes apart in the images"),
    )


def _list_applying(*options: tuple[bool, str]) -> str:
    return ", ".join(text for applies, text in options if applies) + "."
