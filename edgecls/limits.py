"""Bounds that training and the board share. Imports nothing: predicting must start fast."""

from __future__ import annotations

MAX_IMAGE_SIZE = 1024
MAX_THREADS = 1024
PRECISIONS = ("fp32", "fp16", "int8")
# Range of used bits in 16-bit images.
LEAST_BITS, MOST_BITS = 8, 16

# A few seconds of work: little to repeat after a failure, and not too many files.
SHARD_IMAGES = 1000
