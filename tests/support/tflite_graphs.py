"""Runs TFLite graphs as they are, without what edgecls does around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from random_networks import diverse_images
from tiny import CLASSES, SIZE, draw

# Float32 rounding of fifty layers; a wrong pixel scale changes scores by tenths.
FP32_TOLERANCE = 1e-4
# Weights off by up to 1 in 2048 through fifty layers; measured: 0.004 to 0.008.
FP16_TOLERANCE = 0.03
# Mean difference of scores, 0.02 to 0.05 here: random weights quantize worse than trained ones. A wrong input scale is
# far above, which a test below shows.
INT8_TOLERANCE = 0.08


def make_images(pad_gray: int) -> np.ndarray:
    """All black, all white, all padding gray, then diverse images: uint8 (N, 32, 32, 1)."""
    rng = np.random.default_rng(2)
    plain = np.stack([np.full((SIZE, SIZE, 1), gray, np.uint8) for gray in (0, 255, pad_gray)])
    drawn = np.stack([draw(name, rng, (SIZE, SIZE))[..., None] for name in CLASSES])
    return np.concatenate([plain, drawn, diverse_images(18, SIZE, rng)])


def run(graph: bytes, images: np.ndarray) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Scores (N, C) in the real runtime, and what it says of input and output."""
    interpreter = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    scores = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        scores.append(interpreter.get_tensor(target["index"])[0])
    return np.array(scores), source, target
