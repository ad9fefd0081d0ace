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


def prune_and_equalize(
    fused: FusedModel, calibration: NDArray[np.uint8], max_kl: float, *, per_tensor: bool = False
) -> FusedModel:
    """Return a float copy of `fused` with the channels of the int8 files, scaled as they are there."""
    return equalize(prune(fused, calibration, max_kl), calibration, per_tensor=per_tensor)


def prepare(
    fused: FusedModel,
    calibration: NDArray[np.uint8],
    weight_steps: int = WEIGHT_STEPS,
    *,
    max_kl: float = ExportConfig.prune,
    per_tensor: bool = False,
) -> FusedModel:
    """Return a copy of `fused` that loses little when a converter makes it int8.

    `per_tensor` says that the converter has one scale for all weights of a layer, and not one for each channel.
    """
    equalized = prune_and_equalize(fused, calibration, max_kl, per_tensor=per_tensor)
    return correct_bias(equalized, calibration, weight_steps, per_tensor=per_tensor)
