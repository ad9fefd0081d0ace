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
        final: called with the finished run folder.
    """

    curves: Callable[[Sequence[EpochRecord], Path], object] = lambda *_: None
    preview: Callable[[Images, Sequence[Images], Path, Sequence[Corners], str], object] = lambda *_: None
    final: Callable[[Path], object] = lambda *_: None


NO_PICTURES = Pictures()


@dataclass(frozen=True)
class Context:
    """What all phases of a run share.

    Attributes:
        model: trained in place.
        dataset: training and validation images.
        config: settings of the run.
        work: folder of checkpoints; None saves none.
        owner: identifier of the run in its checkpoints.
        cache: folder of feature caches; None is the user's.
        deadline: `time.monotonic()` at which to stop.
        progress: called at each stage.
        on_epoch: called after each epoch with the whole history.
        workers: that train together; only the first one needs `work`.
    """

    model: keras.Model
    dataset: Dataset
    config: TrainConfig
    work: Path | None = None
    owner: str = ""
    cache: Path | None = None
    deadline: float | None = None
    progress: Progress = silent
    on_epoch: OnEpoch = lambda history: None
    workers: Workers = ALONE
