"""Bounds and names that training and predicting share. Imports the standard library only."""

from __future__ import annotations

from typing import Literal

MAX_IMAGE_SIZE = 1024
Format = Literal["tflite", "onnx"]
FORMATS: tuple[Format, ...] = ("tflite", "onnx")
MAX_THREADS = 1024
PRECISIONS = ("fp32", "fp16", "int8")
# Of 16-bit images: how many may be used.
LEAST_BITS, MOST_BITS = 8, 16

# A few seconds of work: little to repeat, and a hundred thousand files for a hundred million images.
SHARD_IMAGES = 1000
