"""How one phase of training learns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.training.phase_names import MAIN_PHASES, OPENING_PHASES

# Adam's first steps are large however small the gradient is; without warm-up they would destroy what was learned.
FINE_WARMUP_EPOCHS = 1
# Fields of a recipe that are not settings of the same name.
COMPUTED_FIELDS = (*("phase", "epochs", "learning_rate", "schedule", "warmup_epochs", "class_weights", "start_counts"),)


@dataclass(frozen=True)
class Recipe:
    """How one phase learns; see `TrainConfig` for the settings of the same names.

    With `start_counts`, the weights before the first step may be the best ones, as epoch 0.
    """

    phase: str
    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    patience: int = 15
    class_weights: tuple[float, ...] | None = None
    seed: int = 0
    start_counts: bool = True

    def learning_rate_at(self, step: int, epoch_steps: int, factor: float = 1.0) -> float:
        """Return the learning rate of step `step` of the phase, from 0: warm-up, then the schedule."""
        warmup, total = self.warmup_epochs * epoch_steps, self.epochs * epoch_steps
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
        return self.learning_rate * (factor if self.schedule == "plateau" else 1)


def make_recipe(name: str, config: TrainConfig, labels: NDArray[np.integer[Any]]) -> Recipe:
    """Return the recipe of a phase.

    Args:
        name: of the phase.
        config: of the run.
        labels: int (N,), of the training images.
    """
    main = name in MAIN_PHASES
    counts = np.bincount(labels)
    balanced = tuple(float(weight) for weight in len(labels) / (len(counts) * counts))
    return Recipe(
        phase=name,
        epochs=config.epochs if main else config.fine_epochs,
        learning_rate=config.main_learning_rate if main else config.tuning_learning_rate,
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
