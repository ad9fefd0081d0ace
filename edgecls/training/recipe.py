"""How one phase of training learns."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
