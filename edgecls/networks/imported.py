"""What training and export know of networks that were imported (`edgecls import`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ARCH = "imported"
"""The `arch` of such a run in run.json."""

GRAY_TO_RGB = "gray_to_rgb"
"""The layer that makes the model's RGB of the gray pixel."""

BOTH_CLASSES = "both_classes"
"""The dense layer that makes two logits of the one of a sigmoid."""


def is_copied(kind: str, settings: Mapping[str, Any], inputs: Sequence[str]) -> bool:
    """Return True for a layer that makes several channels of copies of one image."""
    return kind == "Concatenate" and settings.get("axis", -1) in (-1, 3) and len(set(inputs)) == 1


# Layer -> the settings that its result depends on.
SETTINGS = {
    name: settings.split()
    for name, settings in {
        "Conv2D": "filters kernel_size strides padding dilation_rate groups use_bias",
        "Conv2DTranspose": "filters kernel_size strides padding output_padding dilation_rate use_bias",
        "DepthwiseConv2D": "kernel_size strides padding depth_multiplier dilation_rate use_bias",
        "SeparableConv2D": "filters kernel_size strides padding depth_multiplier dilation_rate use_bias",
        "Dense": "units use_bias",
        "BatchNormalization": "axis epsilon center scale",
        "LayerNormalization": "axis epsilon center scale",
        "GroupNormalization": "groups axis epsilon center scale",
        "Normalization": "axis mean variance invert",
        "Rescaling": "scale offset",
        "Activation": "activation",
        "ReLU": "max_value negative_slope threshold",
        "LeakyReLU": "negative_slope",
        "PReLU": "shared_axes",
        "ELU": "alpha",
        "Softmax": "axis",
        "MaxPooling2D": "pool_size strides padding",
        "AveragePooling2D": "pool_size strides padding",
        "GlobalMaxPooling2D": "keepdims",
        "GlobalAveragePooling2D": "keepdims",
        "ZeroPadding2D": "padding",
        "Cropping2D": "cropping",
        "UpSampling2D": "size interpolation",
        "CenterCrop": "height width",
        "Resizing": "height width interpolation crop_to_aspect_ratio pad_to_aspect_ratio",
        "Flatten": "",
        "Reshape": "target_shape",
        "Permute": "dims",
        "Add": "",
        "Subtract": "",
        "Multiply": "",
        "Average": "",
        "Maximum": "",
        "Minimum": "",
        "Concatenate": "axis",
    }.items()
}
