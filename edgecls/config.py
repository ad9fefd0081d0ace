"""Every default and range check, as frozen dataclasses. Imports `errors` only.

Click reads its defaults from here, and a run stores the resolved values in run.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgecls.errors import ConfigError

WEIGHT_SOURCES = ("auto", "imagenet", "imagenet-torch", "none")
HEADS = ("gap", "flatten")
FLIPS = ("none", "horizontal", "vertical", "horizontal_and_vertical")
Format = Literal["tflite", "onnx"]
FORMATS: tuple[Format, ...] = ("tflite", "onnx")
PRECISIONS = ("fp32", "int8")
# Widths for which keras.applications publishes MobileNetV2 weights; other widths can be trained from none.
KERAS_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# Five stride-2 stages: below 32 pixels the last feature map would be empty.
MIN_IMAGE_SIZE = 32
MAX_IMAGE_SIZE = 1024


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} must be {expected}; received {value!r}")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training images; a zero (or "none") switches that change off.

    Attributes:
        flip: one of `FLIPS`.
        rotation: largest turn either way, as a fraction of a full turn (0.01 is 3.6 degrees).
        translation: largest shift either way, as a fraction of the image's side.
        zoom: largest zoom in or out, as a fraction.
        brightness: largest shift of brightness, as a fraction of 255.
        contrast: largest change of contrast, as a fraction.
    """

    flip: str = "horizontal"
    rotation: float = 0.01
    translation: float = 0.04
    zoom: float = 0.04
    brightness: float = 0.04
    contrast: float = 0.04

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        _check(self.flip in FLIPS, "flip", self.flip, f"one of {', '.join(FLIPS)}")
        for name in ("rotation", "translation", "zoom", "brightness", "contrast"):
            value = getattr(self, name)
            _check(0 <= value < 1, name, value, "at least 0 and below 1")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Attributes:
        image_size: side of the square network input in pixels.
        alpha: width multiplier of MobileNetV2.
        head: "gap" (global average pooling) or "flatten" (Flatten + Dense 32, as in the lecture).
        weights: one of `WEIGHT_SOURCES` or the path of a weights file.
        epochs: most passes over the training images; early stopping may end sooner.
        batch_size: images a step.
        dropout: share of features dropped before the classifier.
        augment: random changes, or None for none.
        views: augmented versions made of each training image; every second image shown is one of them.
        learning_rate: Adam's first step size; it falls to zero along a cosine.
        patience: epochs without a better validation loss before training stops.
        val_fraction: share of the training images held out for validation if there is no val/ folder.
        test_fraction: share held out for the final test if DATA is one folder of class folders.
        seed: of the split, the initial weights, the augmentation and the order of images.
    """

    image_size: int = 224
    alpha: float = 1.0
    head: str = "gap"
    weights: str = "auto"
    epochs: int = 60
    batch_size: int = 32
    dropout: float = 0.2
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    views: int = 3
    learning_rate: float = 5e-3
    patience: int = 15
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        size = self.image_size
        _check(MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE, "image size", size, f"{MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}")
        _check(0.1 <= self.alpha <= 2, "alpha", self.alpha, "0.1 to 2.0")
        _check(self.head in HEADS, "head", self.head, f"one of {', '.join(HEADS)}")
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(self.batch_size >= 1, "batch size", self.batch_size, "at least 1")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        _check(0 <= self.views <= 100, "views", self.views, "0 to 100")
        _check(0 < self.learning_rate < 1, "learning rate", self.learning_rate, "above 0 and below 1")
        _check(self.patience >= 1, "patience", self.patience, "at least 1")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            _check(0 < value < 0.5, name, value, "above 0 and below 0.5")


@dataclass(frozen=True)
class ExportConfig:
    """Settings of one export.

    Attributes:
        precisions: any of `PRECISIONS`.
        formats: any of `FORMATS`.
        max_drop: how much accuracy a written file may lose against the float Keras model (0.01 is one point).
        calibration_images: training images that the int8 ranges are measured on.
        golden: True to put a few training images into each file, for `edgecls selftest`.
        layers: True to measure what each layer of the int8 TFLite file loses; done anyway for a rejected one.
        device: what will run int8 files, a name in `export.targets`, or None for this machine.
        seed: of the choice of calibration images.
    """

    precisions: tuple[str, ...] = ("fp32",)
    formats: tuple[Format, ...] = FORMATS
    max_drop: float = 0.01
    calibration_images: int = 128
    golden: bool = True
    device: str | None = None
    layers: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        for precision in self.precisions:
            _check(precision in PRECISIONS, "precision", precision, f"one of {', '.join(PRECISIONS)}")
        for format_name in self.formats:
            _check(format_name in FORMATS, "format", format_name, f"one of {', '.join(FORMATS)}")
        _check(bool(self.precisions) and bool(self.formats), "export", self, "at least one precision and one format")
        _check(0 <= self.max_drop <= 1, "max drop", self.max_drop, "0 to 1")
        _check(self.calibration_images >= 1, "calibration images", self.calibration_images, "at least 1")
