"""Defaults and range checks of augmentation, as a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from edgecls.config.choices import FLIPS
from edgecls.limits import check_setting as _check


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training images; a zero (or "none") switches that change off.

    Attributes:
        flip: one of `FLIPS`; "auto" is "horizontal", or "none" where the training images show that it is better.
        rotation: largest turn either way, as a fraction of a full turn (0.01 is 3.6 degrees).
        translation: largest shift either way, as a fraction of the image's side.
        zoom: largest zoom in or out, as a fraction.
        brightness: largest shift of brightness, as a fraction of 255.
        contrast: largest change of contrast, as a fraction.
    """

    flip: str = "auto"
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
