"""The images of an export: training images to calibrate on and held-out images to score on, which never overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.images.archive import is_folder
from edgecls.images.dataset import ProgressCallback, Split, load_paths
from edgecls.images.folders import check_root
from edgecls.preprocessing import read_preprocessing
from edgecls.training.run import run_folder


@dataclass(frozen=True, eq=False)
class ExportSamples:
    """Images of one export.

    Attributes:
        root: the folder that the images' paths are relative to.
        calibration: training images, the same number of each class where there are enough.
        held_out: the run's test images, or its validation images if it has no test.
        held_out_name: "test" or "val".
        validation: the run's validation images.
    """

    root: Path
    calibration: Split
    held_out: Split
    held_out_name: str
    validation: Split


def load_samples(
    record: dict[str, Any],
    *,
    data: Path | None,
    count: int,
    seed: int,
    progress: ProgressCallback | None = None,
) -> ExportSamples:
    """Return held-out images and `count` calibration images of the run whose run.json is `record`.

    `data` is the folder of images, if it was moved since the run.

    Raises:
        DataError: images are missing, or the held-out ones are not those that the run was scored on.
    """
    root = data or Path(record["data"])
    if not is_folder(root):
        raise DataError(f"the run's images are no longer at {root}; give their folder with --data")
    root = check_root(root)
    size, preprocessing = record["config"]["image_size"], read_preprocessing(record["config"])
    paths, labels = flatten_split(record["split"]["train"], record["classes"])
    chosen = choose_stratified(labels, count, seed)
    samples = [paths[i] for i in chosen], [labels[i] for i in chosen]
    calibration = load_paths(root, *samples, size, size, preprocessing=preprocessing)
    name = record["held_out"]["split"]
    held_out = _load_part(root, record, name, record["held_out"]["sha256"], progress)
    if name == "val":
        return ExportSamples(root, calibration, held_out, name, held_out)
    val = _load_part(root, record, "val", record.get("val_sha256"), progress)
    return ExportSamples(root, calibration, held_out, name, val)


def _load_part(
    root: Path, record: dict[str, Any], name: str, sha256: str | None, progress: ProgressCallback | None
) -> Split:
    """Return the images of a part; an older run has no checksum of its validation images."""
    size, preprocessing = record["config"]["image_size"], read_preprocessing(record["config"])
    scored = flatten_split(record["split"][name], record["classes"])
    split = load_paths(root, *scored, size, size, preprocessing=preprocessing, progress=progress)
    if sha256 and run_folder.images_sha256(split.images) != sha256:
        raise DataError(f"the {name} images in {root} changed since the run was trained; restore them or train again")
    return split


def flatten_split(by_class: dict[str, list[str]], classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the paths of a part of run.json's split and the class index of each."""
    pairs = [(path, index) for index, name in enumerate(classes) for path in by_class[name]]
    return [path for path, _ in pairs], [index for _, index in pairs]


def choose_stratified(labels: Sequence[int], count: int, seed: int) -> list[int]:
    """Return at most `count` indices into `labels`, drawn at random, the classes in turn until they run out."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.zeros(len(labels), np.int64)
    seen: dict[int, int] = {}
    for position in order:
        turn[position] = seen.get(labels[position], 0)
        seen[labels[position]] = int(turn[position]) + 1
    return [int(position) for position in order[np.argsort(turn[order], kind="stable")][:count]]


def with_full_range(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of `images` with one black and one white pixel in the first, so that their range is 0..255.

    Only then does a converter choose one step per gray value, which makes a raw pixel the quantized input.
    """
    images = images.copy()
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


def centered_inputs(calibration: NDArray[np.uint8], pad_gray: float) -> Iterator[NDArray[np.float32]]:
    """Yield each calibration image as the converters measure it: float32 (1, S, S, 1), less `pad_gray`."""
    for image in with_full_range(calibration):
        yield image[None].astype(np.float32) - pad_gray
