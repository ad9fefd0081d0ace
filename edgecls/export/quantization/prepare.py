"""Prepares the fused network for int8: one preparation for TFLite and ONNX files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import WEIGHT_STEPS
from edgecls.config import ExportConfig
from edgecls.export.fuse import FusedModel
from edgecls.export.quantization.bias_correction import correct_bias
from edgecls.export.quantization.equalize import equalize
from edgecls.export.quantization.prune import prune


def prune_and_equalize(fused: FusedModel, calibration: NDArray[np.uint8], max_kl: float) -> FusedModel:
    """Return a float copy of `fused` with the channels of the int8 files, scaled as they are there."""
    return equalize(prune(fused, calibration, max_kl), calibration)


def prepare(
    fused: FusedModel,
    calibration: NDArray[np.uint8],
    weight_steps: int = WEIGHT_STEPS,
    *,
    max_kl: float = ExportConfig.prune,
) -> FusedModel:
    """Return a copy of `fused` that loses little when a converter makes it int8."""
    return correct_bias(prune_and_equalize(fused, calibration, max_kl), calibration, weight_steps)
