"""Bounds and names that training and predicting share, and the check of a setting. Imports no other package."""

from __future__ import annotations

from typing import Literal

from edgecls.errors import ConfigError

MAX_IMAGE_SIZE = 1024
# Of a picture, in pixels. Pillow resizes one axis at a time: 1 x 64 million pixels would need 14 GB on the way.
MAX_SIDE = 65_535
Format = Literal["tflite", "onnx"]
FORMATS: tuple[Format, ...] = ("tflite", "onnx")
MAX_THREADS = 1024
# What an exported file takes.
INPUTS = ("gray", "rgb")
PRECISIONS = ("fp32", "fp16", "int8")
# Range of used bits in 16-bit images.
LEAST_BITS, MOST_BITS = 8, 16
# Of one image file. The largest array is 512 MiB; Pillow reads WebP files whole before it knows their size.
MAX_FILE_BYTES = 1024**3

# A few seconds of work: little to repeat after a failure, and not too many files.
SHARD_IMAGES = 1000


def check_setting(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ConfigError unless a setting is what is expected of it."""
    if not condition:
        raise ConfigError(f"{name} must be {expected}; received {value!r}")
