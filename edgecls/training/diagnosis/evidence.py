"""What the rules of the diagnosis judge: the epochs of each phase, the scores and the settings. Imports numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.training.diagnosis.finding import Scored
from edgecls.training.history import Divergence, EpochRecord
from edgecls.training.phase_names import phase_name

# Fewer epochs are no curve; values at its end are means over this many epochs, as one epoch is noisy.
MIN_EPOCHS, END_EPOCHS = 3, 3
# In which most networks settle; early stopping ends sooner if they do.
ENOUGH_EPOCHS = 20
# Replaces whatever is larger, infinite or NaN: sums and ratios of it are still numbers.
HUGE = 1e30


@dataclass(frozen=True, eq=False)
class Phase:
    """Consecutive epochs of one phase; `before` is the last epoch of the phase before it."""

    name: str
    records: tuple[EpochRecord, ...]
    before: EpochRecord | None = None

    @property
    def solved(self) -> bool:
        """Return whether a solver found its optimum at once: its one record has no learning rate."""
        return len(self.records) == 1 and self.records[0].learning_rate == 0

    def curve(self, name: str) -> NDArray[np.float64]:
        """Return a number of each epoch, float64 (epochs,)."""
        return _bounded([getattr(record, name) for record in self.records])

    def end(self, name: str) -> float:
        """Return the mean of the last epochs."""
        return float(self.curve(name)[-END_EPOCHS:].mean())

    def layers(self, name: str) -> NDArray[np.float64]:
        """Return a number of `LayerRecord`, float64 (epochs, layers); no column if the layers were not watched."""
        rows = [[float(getattr(layer, name)) for layer in record.layers] for record in self.records]
        same = all(len(row) == len(rows[0]) for row in rows)
        return _bounded(rows) if same else np.empty((len(rows), 0))

    def typical_layers(self, name: str) -> NDArray[np.float64]:
        """Return the median over the epochs for each layer: a slow start alone is no problem."""
        return np.median(self.layers(name), axis=0)


def split_phases(history: Sequence[EpochRecord]) -> tuple[Phase, ...]:
    """Return the phases of all epochs in order."""
    phases: list[Phase] = []
    for name, records in groupby(history, key=lambda record: phase_name(record.phase)):
        phases.append(Phase(name, tuple(records), phases[-1].records[-1] if phases else None))
    return tuple(phases)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of a run; a split without images or scores is None, unknown training labels are empty."""

    phases: tuple[Phase, ...]
    config: TrainConfig
    classes: Sequence[str]
    divergence: Divergence | None
    train: Scored | None
    val: Scored | None
    test: Scored | None
    labels: NDArray[np.integer[Any]]

    @property
    def counts(self) -> NDArray[np.integer[Any]]:
        """Return the number of training images of each class; empty if it is not known."""
        return np.bincount(self.labels, minlength=len(self.classes)) if len(self.labels) else self.labels

    @property
    def baseline_loss(self) -> float:
        """Return the cross-entropy of a network that does not look at the images."""
        return math.log(len(self.classes))

    @property
    def baseline_accuracy(self) -> float:
        """Return the accuracy of a network that does not look at the images, 0..1."""
        # With class weights, always naming the largest class is no better than naming any other.
        fair = self.config.balance or not len(self.labels)
        return 1 / len(self.classes) if fair else float(self.counts.max() / len(self.labels))

    @property
    def main_phase(self) -> Phase | None:
        """Return the first phase and the augmented one, which has the same learning rate, if they were long enough."""
        names = {phase.name for phase in self.phases[:1]} | {"augmented"}
        records = tuple(record for phase in self.phases if phase.name in names for record in phase.records)
        return Phase(self.phases[0].name, records) if len(records) >= MIN_EPOCHS else None

    @property
    def last_phase(self) -> Phase | None:
        """Return the last phase, if it was solved or long enough."""
        last = self.phases[-1] if self.phases else None
        return last if last and (last.solved or len(last.records) >= MIN_EPOCHS) else None

    @property
    def is_short(self) -> bool:
        """Return whether the only phase learned in steps, in too few epochs to settle."""
        return len(self.phases) == 1 and not self.phases[0].solved and len(self.phases[0].records) < MIN_EPOCHS

    @property
    def more_epochs(self) -> str:
        """Return the option, with a value, that lets a short phase settle."""
        return f"--epochs {max(ENOUGH_EPOCHS, self.config.epochs)}"

    def lower_rate(self, phase: str) -> str:
        """Return the option, with a value, that makes the learning rate of a phase ten times lower."""
        if phase in ("joint", "fine-tuning", "backbone"):
            return f"--fine-learning-rate {self.config.tuning_learning_rate / 10:.2g}"
        return f"--learning-rate {self.config.main_learning_rate / 10:.2g}"

    def normalized_accuracy(self, phase: Phase) -> float:
        """Return where accuracy is between the baseline (0) and no mistake (1), by the best measurement of it."""
        accuracies = [phase.end("train_accuracy"), phase.end("val_accuracy")]
        best = max(accuracies + ([self.train.accuracy] if self.train else []))
        baseline = self.baseline_accuracy
        return (best - baseline) / (1 - baseline) if baseline < 1 else 1.0


def _bounded(values: object) -> NDArray[np.float64]:
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=HUGE), -HUGE, HUGE)
