"""Bounds that training and the board share. Imports nothing: predicting must start fast."""

from __future__ import annotations

MAX_IMAGE_SIZE = 1024
MAX_THREADS = 1024
PRECISIONS = ("fp32", "fp16", "int8")
# Of 16-bit images: how many may be used.
LEAST_BITS, MOST_BITS = 8, 16

# A few seconds of work: little to repeat, and a hundred thousand files for a hundred million images.
SHARD_IMAGES = 1000
