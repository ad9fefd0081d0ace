"""What the phases of a training run share, and what draws their pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.images.dataset import Dataset
from edgecls.progress import Progress, silent
from edgecls.training.distributed.workers import ALONE, Workers
from edgecls.training.history import EpochRecord

if TYPE_CHECKING:
    import keras

OnEpoch = Callable[[list[EpochRecord]], None]
Images = NDArray[np.uint8]
Corners = NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """What draws a run; `report.pictures.PICTURES` does, and the default draws nothing.

    Attributes:
        curves: called with the epochs so far and the path of the picture.
        preview: called with images, a list of their augmented copies, the path of the picture, the borders of the
            images in each copy (see `features.augment.find_borders`), and the settings in words.
    """

    curves: Callable[[Sequence[EpochRecord], Path], object] = lambda *_: None
    preview: Callable[[Images, Sequence[Images], Path, Sequence[Corners], str], object] = lambda *_: None
    final: Callable[[Path], object] = lambda *_: None  # called with the finished run folder


NO_PICTURES = Pictures()


@dataclass(frozen=True)
class Context:
    """What all phases of a run share."""

    model: keras.Model  # trained in place
    dataset: Dataset  # training and validation images
    config: TrainConfig  # settings of the run
    work: Path | None = None  # folder of checkpoints; None saves none
    owner: str = ""  # identifier of the run in its checkpoints
    cache: Path | None = None  # folder of feature caches; None is the user's
    deadline: float | None = None  # `time.monotonic()` at which to stop
    progress: Progress = silent  # called at each stage
    on_epoch: OnEpoch = lambda history: None  # called after each epoch with the whole history
    workers: Workers = ALONE  # that train together; only the first one needs `work`
