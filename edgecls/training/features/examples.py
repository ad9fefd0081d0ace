"""What the training loop learns from and validates on: features of a frozen network, or the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.images.memmap import forget_pages
from edgecls.training.features.cache import AugmentedCopy, Features


class Examples(Protocol):
    """Labeled inputs of a network, drawn batch by batch."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the labels, int64 (N,)."""

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Return the network's inputs for the examples `chosen` in epoch `epoch`, from 1; 0 is for validation."""


@dataclass
class FeatureExamples:
    """Examples of `fit` made of features: half of those of an epoch are of the images, half of augmented copies."""

    copies: Sequence[Features]  # features of the images themselves, then of each augmented copy
    labels: NDArray[np.int64]  # int64 (N,)
    seed: int = 0  # of the choice of copies
    _epoch: int = -1
    _copy_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return features, float16 (len(chosen), ...), for epoch `epoch`; epoch 0 uses the images themselves."""
        if epoch != self._epoch:
            self._copy_of, self._epoch = self._draw_copies(epoch), epoch
        copy_of = self._copy_of[chosen]
        result = np.empty((len(chosen), *self.copies[0].rows.shape[1:]), np.float16)
        for copy in np.unique(copy_of):
            result[copy_of == copy] = self.copies[copy].take(chosen[copy_of == copy])
        return result

    def _draw_copies(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.labels)
        if epoch == 0 or len(self.copies) == 1:
            return np.zeros(count, np.int64)
        random = np.random.default_rng([self.seed, epoch, 1])
        return np.where(random.random(count) < 0.5, random.integers(1, len(self.copies), count), 0)


@dataclass
class LiveExamples:
    """Examples of `fit` made of images, augmented differently in every epoch; epoch 0 uses them as they are."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    augment: AugmentConfig | None
    seed: int

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images, uint8 (len(chosen), S, S, 1), 0..255."""
        images = self.images[chosen]
        forget_pages(self.images)
        return AugmentedCopy(epoch, self.augment, self.seed).apply(images, chosen.tolist())
