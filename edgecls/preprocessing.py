"""How a picture becomes the network's input: settings that training and the exported file share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecls.limits import LEAST_BITS, MAX_SIDE, MOST_BITS
from edgecls.limits import check_setting as _check

RESIZES = ("stretch", "crop", "pad")
Roi = tuple[int, int, int, int]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input; the same in training, calibration and prediction.

    Attributes:
        bits: how many of 16 bits are used in pictures that do not state it, 8 to 16; None is 16.
        resize: "stretch" (both sides to those of the input), "crop" (the largest part in the middle that has the
            input's aspect ratio) or "pad" (the whole picture, with gray beside or above and below it).
        roi: region of interest: left, top, width and height in pixels of the upright picture, cut out before the
            resize; None is the whole picture.
    """

    bits: int | None = None
    resize: str = "stretch"
    roi: Roi | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        _check(self.bits is None or LEAST_BITS <= self.bits <= MOST_BITS, "bits", self.bits, "8 to 16")
        _check(self.resize in RESIZES, "resize", self.resize, f"one of {', '.join(RESIZES)}")
        _check(
            self.roi is None or is_roi(self.roi),
            "roi",
            self.roi,
            f"left, top, width and height in pixels, such as 40,0,320,240, each at most {MAX_SIDE}, and the sizes at "
            "least 1",
        )


def is_roi(value: object) -> bool:
    """Return whether a value is left, top, width and height of a region, as a tuple."""
    if not (isinstance(value, tuple) and len(value) == 4):
        return False
    return all(type(each) is int and 0 <= each <= MAX_SIDE for each in value) and min(value[2:]) > 0


def read_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that the settings in run.json say; what an older run does not say has its default.

    Raises:
        ConfigError: a value is out of range.
    """
    roi = config.get("roi")
    return Preprocessing(config.get("bits"), config.get("resize", "stretch"), None if roi is None else tuple(roi))
