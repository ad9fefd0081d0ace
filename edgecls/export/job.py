"""What all files of one export share: the trained network, its forms for inference, and the images."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import Target, find_target
from edgecls.config import ExportConfig
from edgecls.errors import ConfigError
from edgecls.export import inspect
from edgecls.export.calibration import ExportSamples, load_samples
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.heatmap import check_heatmap
from edgecls.export.imported import Rewritten, rewrite
from edgecls.export.quantization.bias_correction import correct_bias
from edgecls.export.quantization.prepare import prune_and_equalize
from edgecls.images.dataset import Split
from edgecls.model_file.selftest import make_golden
from edgecls.networks.imported import ARCH
from edgecls.preprocessing import read_preprocessing
from edgecls.progress import Progress
from edgecls.training.run import run_folder

if TYPE_CHECKING:
    import keras

# Training images, beyond those of the calibration, on which an imported network's int8 files are compared.
CHOICE_IMAGES = 64


@dataclass(frozen=True, eq=False)
class Job:
    """What all files of one export share; `choice` are images, uint8 (N, S, S, 1), to compare int8 files on."""

    model: keras.Model
    samples: ExportSamples
    choice: NDArray[np.uint8]
    keras_scores: NDArray[np.float32]
    golden: tuple[dict[str, Any], ...]
    run: Path
    record: dict[str, Any]
    config: ExportConfig
    target: Target
    # Of the run or the export; "" for none.
    good_class: str
    # False for a stem on pixels also where blocks of 2x2 are faster; a learned gray_to_rgb reads blocks all the same.
    in_blocks: bool = True

    @functools.cached_property
    def float_accuracy(self) -> float:
        """Return the float model's accuracy on the held-out images, 0..1."""
        return float((self.keras_scores.argmax(1) == self.samples.held_out.labels).mean())

    @functools.cached_property
    def unseen(self) -> NDArray[np.float32] | None:
        """Return scores of the validation images, float32 (N, C), from before the classifier learned from them, if any.

        Raises:
            ModelFileError: they are missing or damaged.
        """
        if not self.record.get("refit_images"):
            return None
        images, classes = len(self.samples.validation.labels), len(self.record["classes"])
        return run_folder.read_validation_scores(self.run, images, classes)

    @property
    def is_imported(self) -> bool:
        """Return True for the run of a model from elsewhere."""
        return bool(self.record["arch"] == ARCH)

    @functools.cached_property
    def rewritten(self) -> Rewritten:
        """Return the network of an imported model for inference."""
        return rewrite(self.model, self.samples.calibration.images)

    @functools.cached_property
    def float_fused(self) -> FusedModel:
        """Return the network of the float files."""
        return self._fuse(int8=False)

    @functools.cached_property
    def int8_fused(self) -> FusedModel:
        """Return the network that int8 files begin with."""
        return self._fuse(int8=True)

    def _fuse(self, *, int8: bool) -> FusedModel:
        if self.is_imported:
            return self.rewritten.whole if int8 else self.rewritten.exact
        return fuse(self.model, in_blocks=int8 and self.in_blocks and not self.target.accelerator)

    @functools.cached_property
    def equalized(self) -> FusedModel:
        """Return it pruned and equalized; its weights are not rounded yet."""
        images, per_tensor = self.samples.calibration.images, self.target.per_tensor
        return prune_and_equalize(self.int8_fused, images, self.config.prune, per_tensor=per_tensor)

    @functools.cached_property
    def prepared(self) -> FusedModel:
        """Return the network of all int8 files with 8-bit weights."""
        return correct_bias(self.equalized, self.samples.calibration.images, per_tensor=self.target.per_tensor)


def open_job(run: Path, config: ExportConfig, data: Path | None, progress: Progress, *, in_blocks: bool = True) -> Job:
    """Return the job of exporting the run in the folder `run`; `data` is its images' folder, if it was moved.

    Raises:
        ModelFileError: `run` is not a run folder. DataError: its images are missing or changed.
        ConfigError: the target is unknown or does not run one of the formats or RGB, or the network has no heat map.
    """
    target = replace(find_target(config.device, config.formats), per_tensor=config.per_tensor)
    record = run_folder.read_whole_record(run)
    good = inspect.find_good(record, config)
    model = run_folder.load_model(run)
    if config.input == "rgb" and target.accelerator:
        raise ConfigError("files for an NPU take gray images; export without --input rgb, or without --board")
    if config.heatmap:
        check_heatmap(model, target)
    samples = load_samples(
        record,
        data=data,
        count=config.calibration_images + (CHOICE_IMAGES if record["arch"] == ARCH else 0),
        seed=config.seed,
        progress=functools.partial(progress, "read held-out images"),
    )
    choice = samples.calibration.images[-CHOICE_IMAGES:]
    samples = replace(samples, calibration=_first(samples.calibration, config.calibration_images))
    scores = run_folder.read_held_out_scores(run, len(samples.held_out.labels), len(record["classes"]))
    size, preprocessing = record["config"]["image_size"], read_preprocessing(record["config"])
    paths = samples.calibration.paths if config.golden else ()
    golden = make_golden([samples.root / path for path in paths], size, size, preprocessing)
    return Job(model, samples, choice, scores, golden, run, record, config, target, good, in_blocks)


def _first(split: Split, count: int) -> Split:
    return Split(split.paths[:count], split.images[:count], split.labels[:count])
