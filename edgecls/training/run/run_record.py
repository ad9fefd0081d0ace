"""Checks of run.json before export and report use it, because a run folder may come from anybody."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Literal, TypedDict

from edgecls.errors import ConfigError
from edgecls.limits import LEAST_BITS, MAX_IMAGE_SIZE, MOST_BITS
from edgecls.preprocessing import read_preprocessing
from edgecls.training.diagnosis.finding import Finding
from edgecls.validation import check

Paths = dict[str, list[str]]  # class -> posix paths relative to `data`


class _Size(TypedDict):
    image_size: int


class _Config(_Size, total=False):
    bits: int | None
    resize: str
    roi: list[int] | None


class _Weights(TypedDict):
    source: str
    sha256: str | None


class _HeldOut(TypedDict):
    split: Literal["val", "test"]
    sha256: str


class _Metrics(TypedDict):
    val_accuracy: float
    test_accuracy: float | None
    macro_f1: float


class _Phase(TypedDict):
    name: str
    epochs: int
    best_epoch: int
    val_accuracy_before: float
    val_accuracy_after: float
    kept: bool
    reason: str


class _Scaling(TypedDict):
    name: str


class _Way(TypedDict):
    accuracy: float
    p_value: float


class _Imported(TypedDict):
    file: str
    options: list[str]
    scaling: _Scaling
    scalings: dict[str, float]
    classes: str
    accuracy: float
    resizing: dict[str, _Way]


class _Required(TypedDict):
    arch: str
    config: _Config
    classes: list[str]
    weights: _Weights
    metrics: _Metrics
    data: str
    split: dict[str, Paths]
    held_out: _HeldOut
    train_sha256: str


class RunRecord(_Required, total=False):
    """run.json; values that older versions did not write may be missing."""

    val_sha256: str
    phases: list[_Phase]
    diagnosis: list[Finding]
    seconds: float
    skipped: list[Any]
    duplicates: list[Any]
    contradictions: list[Any]
    left_out: str
    folders: list[str]
    warnings: list[str]
    versions: dict[str, str]
    files: dict[str, str]
    refit_images: int
    imported: _Imported


def check_record(record: dict[str, Any]) -> None:
    """Raise ValueError that names the first value of run.json that is invalid or malicious."""
    check(record, RunRecord, "run.json")
    classes, split = record["classes"], record["split"]
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be two or more, all different; received {classes!r:.80}")
    _check_config(record["config"])
    if "\0" in record["data"]:
        raise ValueError("data must be the path of a folder")
    for part in ("train", record["held_out"]["split"], *split):
        if set(split.get(part, ())) != set(classes):
            raise ValueError(f"split.{part} must list the images of every class")
    for by_class in split.values():
        for paths in by_class.values():
            _check_paths(paths)


def _check_config(config: _Config) -> None:
    if not 1 <= (size := config["image_size"]) <= MAX_IMAGE_SIZE:
        raise ValueError(f"config.image_size must be 1 to {MAX_IMAGE_SIZE}; received {size}")
    if (bits := config.get("bits")) is not None and not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"config.bits must be {LEAST_BITS} to {MOST_BITS} or null; received {bits}")
    try:
        read_preprocessing(config)
    except ConfigError as error:
        raise ValueError(f"config.{error}") from error


def _check_paths(paths: list[str]) -> None:
    for path in map(PurePosixPath, paths):
        # Some training images are copied into exported files, and no other file may be.
        if path.is_absolute() or ".." in path.parts or "\0" in str(path):
            raise ValueError(f"split names an image outside of the images' folder: {str(path)!r:.80}")
