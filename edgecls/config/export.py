"""Defaults and range checks of export, as a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from edgecls.limits import FORMATS, INPUTS, PRECISIONS, Format
from edgecls.limits import check_setting as _check


@dataclass(frozen=True)
class ExportConfig:
    """Settings of one export.

    Attributes:
        precisions: any of `PRECISIONS`.
        formats: any of `FORMATS`.
        max_drop: how much accuracy a written file may lose against the float Keras model (0.01 is one point).
        calibration_images: training images that the int8 ranges are measured on.
        golden: True to put a few training images into each file, for `edgecls selftest`.
        prune: maximum KL divergence from the float model's scores that int8 files may reach by removing hidden channels
            that the training images hardly use; 0 keeps all (see `export.quantization.prune`).
        layers: True to measure what each layer of the int8 TFLite file loses; done anyway for a rejected one.
        heatmap: True to give each file a second output, the class activation map.
        input: "gray", or "rgb" for TFLite files that take RGB pixels and compute the gray themselves.
        per_tensor: True to give each layer of int8 files one scale for all its weights, which some NPUs need or run
            faster, and not one for each channel.
        device: what will run int8 files, a name in `export.targets`, or None for this machine.
        good_class: the class that is no defect; "" is the run's.
        max_missed: largest fraction of defects that each file may call good, by a threshold on the good class's score
            that is chosen on validation images; None chooses none.
        max_false_alarms: the same for good images that it may call a defect.
        seed: of the choice of calibration images.
    """

    precisions: tuple[str, ...] = ("fp32",)
    formats: tuple[Format, ...] = FORMATS
    max_drop: float = 0.01
    calibration_images: int = 128
    golden: bool = True
    # Rounding to int8 costs a divergence of about 0.003, this a hundredth of that.
    prune: float = 0.005
    device: str | None = None
    good_class: str = ""
    max_missed: float | None = None
    max_false_alarms: float | None = None
    layers: bool = False
    heatmap: bool = False
    input: str = "gray"
    per_tensor: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        for precision in self.precisions:
            _check(precision in PRECISIONS, "precision", precision, f"one of {', '.join(PRECISIONS)}")
        for format_name in self.formats:
            _check(format_name in FORMATS, "format", format_name, f"one of {', '.join(FORMATS)}")
        _check(self.input in INPUTS, "input", self.input, f"one of {', '.join(INPUTS)}")
        _check(self.input == "gray" or self.formats == ("tflite",), "formats", self.formats, "tflite for --input rgb")
        for name in ("heatmap", "layers"):
            unfit = self.input == "rgb" and getattr(self, name)
            _check(not unfit, name, True, "left out with --input rgb")
        _check(bool(self.precisions) and bool(self.formats), "export", self, "at least one precision and one format")
        _check(0 <= self.prune < float("inf"), "prune", self.prune, "0 (keep all channels) or more")
        _check(0 <= self.max_drop <= 1, "max drop", self.max_drop, "0 to 1")
        for name in ("max_missed", "max_false_alarms"):
            value = getattr(self, name)
            _check(value is None or 0 <= value < 1, name.replace("_", " "), value, "at least 0 and below 1")
        _check(self.calibration_images >= 1, "calibration images", self.calibration_images, "at least 1")
