"""What is recorded of each epoch: the diagnosis judges it, the report draws it, and --resume restores it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from edgecls.validation import build


@dataclass(frozen=True)
class LayerRecord:
    """How one layer with weights learned in one epoch, layers in order from the image to the scores.

    Attributes:
        dead_share: fraction of the layer's ReLU channels that were zero for every probed image; None without a ReLU.
    """

    name: str  # of the layer
    gradient_norm: float  # mean over the watched steps of the norm of the layer's gradients
    update_ratio: float  # mean over the watched steps of |change of the weights| / |weights|
    dead_share: float | None = None


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one phase."""

    # "classifier", "augmented", "joint", "fine-tuning", "backbone" or "network" (networks without a backbone)
    phase: str
    epoch: int  # counts from 1 in each phase
    train_loss: float  # mean over the epoch's steps, regularization included, dropout and augmentation on
    train_accuracy: float  # over the epoch's steps, 0..1
    val_loss: float  # cross-entropy of the validation images after the epoch
    val_accuracy: float  # of the validation images after the epoch, 0..1
    learning_rate: float  # at the last step
    largest_step_loss: float  # of all steps
    seconds: float  # the epoch took, validation included
    layers: tuple[LayerRecord, ...] = ()  # of those that learn

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> EpochRecord:
        """Return the record that `to_json` wrote; raise ValueError if it is none."""
        return build(cls, record, "an epoch")


@dataclass(frozen=True)
class Divergence:
    """A number that was not finite ended training."""

    phase: str  # in which it happened
    epoch: int  # in which it happened, from 1
    step: int  # in that epoch, from 0
    what: str  # "loss", "gradient" or "weights": the first that was not finite
    layer: str | None  # the first layer, from the image, with such a number; None if it was only the loss
