"""Rewrites an imported network for inference: the same scores with fewer and simpler layers.

Scaling and gray_to_rgb become part of the first layer; every BatchNorm of the layer before or after it; separable
convolutions are two layers; padding is the convolution's own where it can be. Layers that it does not know stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.fuse import FusedModel
from edgecls.export.graph import Array
from edgecls.export.imported_layers import (
    CONVOLUTIONS,
    IMAGE,
    Layer,
    Network,
    build_core,
    insert_after,
    output_channels,
    read_network,
    readers_of,
    remove,
)
from edgecls.networks.imported import BOTH_CLASSES, GRAY_TO_RGB, is_copied

if TYPE_CHECKING:
    import keras

_SHAPING = ("Flatten", "Reshape")
# Gray values that count as equal: rounding of float32 changes 127.5 by 1e-5.
_SAME_GRAY = 1e-3


def fuse_imported(model: keras.Model, *, whole_gray: bool) -> FusedModel:
    """Return the fused network of the run of an imported model.

    Args:
        model: of `imported.build.build_network`, loaded from a run; it is not changed.
        whole_gray: True for a whole `pad_gray`, as a quantized input needs; scores at the borders then differ a little
            from the model's if the model's zero lies between two gray values.
    """
    network = read_network(model)
    _split_separable(network)
    pad_gray = _fold_front(network, whole_gray)
    _fold_norms(network)
    _fold_padding(network)
    _merge_both_classes(network)
    _merge_softmax(network)
    return FusedModel(build_core(network, model.input.shape[1]), pad_gray)


def _split_separable(network: Network) -> None:
    for layer in [each for each in network.values() if each.kind == "SeparableConv2D"]:
        depthwise, pointwise, *bias = layer.weights
        settings = layer.settings
        shared = {key: settings[key] for key in ("data_format", "dtype", "trainable")}
        layer.kind, layer.weights = "DepthwiseConv2D", [depthwise]
        layer.settings = shared | {key: settings[key] for key in ("kernel_size", "strides", "padding", "dilation_rate")}
        layer.settings |= {"depth_multiplier": settings["depth_multiplier"], "use_bias": False, "activation": "linear"}
        after = shared | {"filters": settings["filters"], "kernel_size": (1, 1), "strides": (1, 1), "padding": "valid"}
        after |= {"dilation_rate": (1, 1), "groups": 1, "use_bias": bool(bias), "activation": settings["activation"]}
        new = Layer(f"{layer.name}_pointwise", "Conv2D", after, [layer.name], [pointwise, *bias], layer.input_shape)
        insert_after(network, layer, new)


def _merge_softmax(network: Network) -> None:
    """Make a last softmax or sigmoid the activation of the dense layer before it, as converters expect."""
    last = next(reversed(network.values()))
    activation = "softmax" if last.kind == "Softmax" else last.settings.get("activation")
    before = network.get(last.inputs[0])
    if last.kind in ("Activation", "Softmax") and before and before.kind == "Dense" and before.is_linear:
        before.settings["activation"] = activation
        remove(network, last)


def _merge_both_classes(network: Network) -> None:
    """Merge the dense layer of one logit with the one that makes two of it: in int8 the last layer stays float."""
    last = network.get(BOTH_CLASSES)
    before = network.get(last.inputs[0]) if last else None
    if last and before and before.kind == "Dense" and before.is_linear and len(readers_of(network, before.name)) == 1:
        (first, *bias), (second, second_bias) = before.weights, last.weights
        last.weights = [first @ second, sum(bias) @ second + second_bias]
        remove(network, before)


def _affine(layer: Layer) -> tuple[Array, Array] | None:
    """Return gain and offset of a layer that computes x * gain + offset in each channel."""
    if layer.kind == "Rescaling":
        return np.atleast_1d(np.float64(layer.settings["scale"])), np.atleast_1d(np.float64(layer.settings["offset"]))
    if layer.kind != "BatchNormalization" or layer.settings["axis"] not in (-1, len(layer.input_shape) - 1):
        return None
    weights = list(layer.weights)
    mean, variance = weights[-2:]
    gamma = weights.pop(0) if layer.settings["scale"] else np.ones_like(mean)
    beta = weights.pop(0) if layer.settings["center"] else np.zeros_like(mean)
    gain = gamma / np.sqrt(variance + layer.settings["epsilon"])
    return gain, beta - mean * gain


def _fold_front(network: Network, whole_gray: bool) -> float:
    """Make the scaling of the image part of the first layer with weights; return the gray that is zero there."""
    gain, offset = np.ones(1), np.zeros(1)
    while len(readers := readers_of(network, IMAGE)) == 1:
        (layer,) = readers
        if layer.name == GRAY_TO_RGB:
            step = layer.weights[0].reshape(-1), layer.weights[1]
        elif is_copied(layer.kind, layer.settings, layer.inputs):
            step = np.ones(len(layer.inputs) * len(gain)), np.zeros(1)
            gain, offset = np.tile(gain, len(layer.inputs)), np.tile(offset, len(layer.inputs))
        elif (found := _affine(layer)) is None:
            break
        else:
            step = found
        gain, offset = gain * step[0], offset * step[0] + step[1]
        remove(network, layer)
    path = _path_to_weights(network)
    first = path[-1] if path else None
    pads = any(layer.kind == "ZeroPadding2D" or layer.settings.get("padding") == "same" for layer in path)
    gray = _zero(gain, offset) if pads else 0.0
    if first is None or gray is None:
        _insert_gray_to_rgb(network, gain, offset)
        return 0.0
    if whole_gray:
        gray = float(round(gray))
    _scale_weights(first, gain, gain * gray + offset)
    return gray


def _path_to_weights(network: Network) -> list[Layer]:
    """Return the layers from the image to the first one with weights, if scaling can be folded into that one."""
    path: list[Layer] = []
    name = IMAGE
    while len(readers := readers_of(network, name)) == 1:
        path.append(readers[0])
        name = path[-1].name
        if path[-1].is_linear and path[-1].kind != "DepthwiseConv2D":
            flat = path[-1].kind == "Dense"
            fits = path[-1].settings.get("groups", 1) == 1 and len(path[-1].input_shape) == (2 if flat else 4)
            return path if fits and flat == any(each.kind in _SHAPING for each in path) else []
        if path[-1].kind not in ("ZeroPadding2D", *_SHAPING):
            break
    return []


def _zero(gain: Array, offset: Array) -> float | None:
    """Return the gray value, 0..255, that scaling turns into zero in every channel, or None."""
    if not gain.all():
        return None
    grays = -offset / gain
    same = np.ptp(grays) < _SAME_GRAY and -_SAME_GRAY <= grays.min() <= grays.max() <= 255 + _SAME_GRAY
    return float(np.clip(np.round(grays.mean(), 4), 0, 255)) if same else None


def _insert_gray_to_rgb(network: Network, gain: Array, offset: Array) -> None:
    settings = {
        "filters": len(gain),
        "kernel_size": (1, 1),
        "activation": "linear",
        "use_bias": True,
        "padding": "valid",
    }
    settings |= {"groups": 1}
    layer = Layer(GRAY_TO_RGB, "Conv2D", settings, [IMAGE], [gain.reshape(1, 1, 1, -1), offset], (1, 0, 0, 1))
    for reader in readers_of(network, IMAGE):
        reader.inputs = [GRAY_TO_RGB if name == IMAGE else name for name in reader.inputs]
    items = list(network.items())
    network.clear()
    network.update([(GRAY_TO_RGB, layer), *items])


def _scale_weights(first: Layer, gain: Array, offset: Array) -> None:
    """Let `first` read the centered gray image in place of the channels image * gain + offset."""
    kernel = first.weights[0]
    bias = first.weights[1] if first.settings["use_bias"] else np.zeros(kernel.shape[-1])
    if first.kind == "Dense":
        by_channel = kernel.reshape(-1, len(gain), kernel.shape[-1])
        first.weights = [np.einsum("pcu,c->pu", by_channel, gain), bias + np.einsum("pcu,c->u", by_channel, offset)]
    else:
        summed = np.einsum("hwcf,c->hwf", kernel, gain)[:, :, None]
        first.weights = [summed, bias + np.einsum("hwcf,c->f", kernel, offset)]
    first.settings["use_bias"] = True


def _fold_norms(network: Network) -> None:
    for layer in list(network.values()):
        step = _affine(layer)
        if step is None or layer.inputs[0] == IMAGE:
            continue
        before, readers = network[layer.inputs[0]], readers_of(network, layer.name)
        if before.is_linear and len(readers_of(network, before.name)) == 1:
            _fold_backward(before, *step)
            remove(network, layer)
        elif len(readers) == 1 and readers[0].is_pointwise:
            _fold_forward(readers[0], *step)
            remove(network, layer)
        elif len(layer.input_shape) == 4 and (layer.kind == "BatchNormalization" or len(step[0]) > 1):
            # As a convolution it gets a step for each channel in int8, and it is equalized and corrected.
            layer.kind, layer.weights = "DepthwiseConv2D", [step[0].reshape(1, 1, -1, 1), step[1]]
            layer.settings = {"kernel_size": (1, 1), "use_bias": True, "activation": "linear", "padding": "valid"}


def _fold_backward(layer: Layer, gain: Array, offset: Array) -> None:
    kernel = layer.weights[0]
    bias = layer.weights[1] if layer.settings["use_bias"] else 0.0
    shape = kernel.shape[2:] if layer.kind == "DepthwiseConv2D" and len(gain) > 1 else (-1,)
    layer.weights = [
        kernel * gain.reshape(shape),
        np.broadcast_to(bias * gain + offset, (output_channels(layer),)).copy(),
    ]
    layer.settings["use_bias"] = True


def _fold_forward(layer: Layer, gain: Array, offset: Array) -> None:
    kernel = layer.weights[0]
    bias = layer.weights[1] if layer.settings["use_bias"] else 0.0
    moved = np.broadcast_to(offset, (kernel.shape[-2],)) @ kernel.reshape(kernel.shape[-2:])
    layer.weights = [kernel * gain.reshape(-1, 1), bias + moved]
    layer.settings["use_bias"] = True


def _fold_padding(network: Network) -> None:
    """Let convolutions pad themselves where that gives the same zeros."""
    for layer in [each for each in network.values() if each.kind == "ZeroPadding2D"]:
        readers = readers_of(network, layer.name)
        if len(readers) == 1 and readers[0].kind in CONVOLUTIONS and readers[0].settings["padding"] == "valid":
            own = [_same_padding(readers[0].settings, layer.input_shape[axis], axis - 1) for axis in (1, 2)]
            if own == [tuple(sides) for sides in layer.settings["padding"]]:
                readers[0].settings["padding"] = "same"
                remove(network, layer)


def _same_padding(settings: dict[str, Any], size: int, axis: int) -> tuple[int, int]:
    """Return the zeros that TensorFlow adds before and after a side of `size` pixels with padding "same"."""
    stride, reach = settings["strides"][axis], (settings["kernel_size"][axis] - 1) * settings["dilation_rate"][axis] + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2
