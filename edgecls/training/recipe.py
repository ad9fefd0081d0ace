"""How one phase of training learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How one phase learns; see `TrainConfig` for the settings of the same names.

    With `start_counts` the weights that the model comes with may turn out the best, as epoch 0.
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
