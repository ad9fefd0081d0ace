"""Rewrites an imported network for inference: the same scores with fewer and simpler layers.

Scaling and gray_to_rgb become part of the first layer; every BatchNorm of the layer before or after it; separable
convolutions are two layers; padding is the convolution's own where it can be. Layers that it does not know stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.fuse import FusedModel
from edgecls.export.graph import Array, sources_of
from edgecls.networks.imported import GRAY_TO_RGB

if TYPE_CHECKING:
    import keras

IMAGE = ""
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")
_SHAPING = ("Flatten", "Reshape")
# Gray values that count as equal: rounding of float32 changes 127.5 by 1e-5.
_SAME_GRAY = 1e-3


@dataclass
class _Layer:
    """A layer of the network that is being rewritten; `inputs` are names of others, the image is IMAGE."""

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: list[str]
    weights: list[Array]
    input_shape: tuple[int, ...]

    @property
    def is_linear(self) -> bool:
        return self.kind in (*_CONVOLUTIONS, "Dense") and self.settings.get("activation") == "linear"

    @property
    def is_pointwise(self) -> bool:
        """True if each output reads one position of the input."""
        if self.kind == "Conv2D":
            return tuple(self.settings["kernel_size"]) == (1, 1) and self.settings["groups"] == 1
        return self.kind == "Dense"


_Network = dict[str, _Layer]


def fuse_imported(model: keras.Model, *, whole_gray: bool) -> FusedModel:
    """Return the fused network of the run of an imported model.

    Args:
        model: of `imported.build.build_network`, loaded from a run; it is not changed.
        whole_gray: True for a whole `pad_gray`, as a quantized input needs; scores at the borders then differ a little
            from the model's if the model's zero lies between two gray values.
    """
    network = _read(model)
    _split_separable(network)
    pad_gray = _fold_front(network, whole_gray)
    _fold_norms(network)
    _fold_padding(network)
    _merge_softmax(network)
    return FusedModel(_build(network, model.input.shape[1]), pad_gray)


def _read(model: keras.Model) -> _Network:
    sources, image = sources_of(model), model.layers[0].name
    network = {}
    for layer in model.layers[1:]:
        inputs = [IMAGE if name == image else name for name in sources[layer.name]]
        weights = [np.asarray(each, np.float64) for each in layer.get_weights()]
        shape = tuple((layer.input[0] if len(inputs) > 1 else layer.input).shape)
        network[layer.name] = _Layer(layer.name, type(layer).__name__, layer.get_config(), inputs, weights, shape)
    return network


def _readers(network: _Network, name: str) -> list[_Layer]:
    return [layer for layer in network.values() for source in layer.inputs if source == name]


def _remove(network: _Network, layer: _Layer) -> None:
    """Let the readers of a layer read its input instead."""
    (source,) = layer.inputs
    del network[layer.name]
    for reader in network.values():
        reader.inputs = [source if name == layer.name else name for name in reader.inputs]


def _insert_after(network: _Network, layer: _Layer, new: _Layer) -> None:
    """Let the readers of `layer` read `new`, which reads `layer`."""
    for reader in _readers(network, layer.name):
        reader.inputs = [new.name if name == layer.name else name for name in reader.inputs]
    items = list(network.items())
    position = [name for name, _ in items].index(layer.name) + 1
    network.clear()
    network.update([*items[:position], (new.name, new), *items[position:]])


def _split_separable(network: _Network) -> None:
    for layer in [each for each in network.values() if each.kind == "SeparableConv2D"]:
        depthwise, pointwise, *bias = layer.weights
        settings = layer.settings
        shared = {key: settings[key] for key in ("data_format", "dtype", "trainable")}
        layer.kind, layer.weights = "DepthwiseConv2D", [depthwise]
        layer.settings = shared | {key: settings[key] for key in ("kernel_size", "strides", "padding", "dilation_rate")}
        layer.settings |= {"depth_multiplier": settings["depth_multiplier"], "use_bias": False, "activation": "linear"}
        after = shared | {"filters": settings["filters"], "kernel_size": (1, 1), "strides": (1, 1), "padding": "valid"}
        after |= {"dilation_rate": (1, 1), "groups": 1, "use_bias": bool(bias), "activation": settings["activation"]}
        new = _Layer(f"{layer.name}_pointwise", "Conv2D", after, [layer.name], [pointwise, *bias], layer.input_shape)
        _insert_after(network, layer, new)


def _merge_softmax(network: _Network) -> None:
    """Make a last softmax or sigmoid the activation of the dense layer before it, as converters expect."""
    last = next(reversed(network.values()))
    activation = "softmax" if last.kind == "Softmax" else last.settings.get("activation")
    before = network.get(last.inputs[0])
    if last.kind in ("Activation", "Softmax") and before and before.kind == "Dense" and before.is_linear:
        before.settings["activation"] = activation
        _remove(network, last)


def _affine(layer: _Layer) -> tuple[Array, Array] | None:
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


def _fold_front(network: _Network, whole_gray: bool) -> float:
    """Make the scaling of the image part of the first layer with weights; return the gray that is zero there."""
    gain, offset = np.ones(1), np.zeros(1)
    while len(readers := _readers(network, IMAGE)) == 1:
        (layer,) = readers
        if layer.name == GRAY_TO_RGB:
            step = layer.weights[0].reshape(-1), layer.weights[1]
        elif (found := _affine(layer)) is None:
            break
        else:
            step = found
        gain, offset = gain * step[0], offset * step[0] + step[1]
        _remove(network, layer)
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


def _path_to_weights(network: _Network) -> list[_Layer]:
    """Return the layers from the image to the first one with weights, if scaling can be folded into that one."""
    path: list[_Layer] = []
    name = IMAGE
    while len(readers := _readers(network, name)) == 1:
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


def _insert_gray_to_rgb(network: _Network, gain: Array, offset: Array) -> None:
    settings = {
        "filters": len(gain),
        "kernel_size": (1, 1),
        "activation": "linear",
        "use_bias": True,
        "padding": "valid",
    }
    settings |= {"groups": 1}
    layer = _Layer(GRAY_TO_RGB, "Conv2D", settings, [IMAGE], [gain.reshape(1, 1, 1, -1), offset], (1, 0, 0, 1))
    for reader in _readers(network, IMAGE):
        reader.inputs = [GRAY_TO_RGB if name == IMAGE else name for name in reader.inputs]
    items = list(network.items())
    network.clear()
    network.update([(GRAY_TO_RGB, layer), *items])


def _scale_weights(first: _Layer, gain: Array, offset: Array) -> None:
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


def _fold_norms(network: _Network) -> None:
    for layer in list(network.values()):
        step = _affine(layer)
        if step is None or layer.inputs[0] == IMAGE:
            continue
        before, readers = network[layer.inputs[0]], _readers(network, layer.name)
        if before.is_linear and len(_readers(network, before.name)) == 1:
            _fold_backward(before, *step)
            _remove(network, layer)
        elif len(readers) == 1 and readers[0].is_pointwise:
            _fold_forward(readers[0], *step)
            _remove(network, layer)
        elif len(layer.input_shape) == 4 and (layer.kind == "BatchNormalization" or len(step[0]) > 1):
            # As a convolution it gets a step for each channel in int8, and it is equalized and corrected.
            layer.kind, layer.weights = "DepthwiseConv2D", [step[0].reshape(1, 1, -1, 1), step[1]]
            layer.settings = {"kernel_size": (1, 1), "use_bias": True, "activation": "linear", "padding": "valid"}


def _fold_backward(layer: _Layer, gain: Array, offset: Array) -> None:
    kernel = layer.weights[0]
    bias = layer.weights[1] if layer.settings["use_bias"] else 0.0
    shape = kernel.shape[2:] if layer.kind == "DepthwiseConv2D" and len(gain) > 1 else (-1,)
    layer.weights = [kernel * gain.reshape(shape), np.broadcast_to(bias * gain + offset, (_outputs(layer),)).copy()]
    layer.settings["use_bias"] = True


def _fold_forward(layer: _Layer, gain: Array, offset: Array) -> None:
    kernel = layer.weights[0]
    bias = layer.weights[1] if layer.settings["use_bias"] else 0.0
    moved = np.broadcast_to(offset, (kernel.shape[-2],)) @ kernel.reshape(kernel.shape[-2:])
    layer.weights = [kernel * gain.reshape(-1, 1), bias + moved]
    layer.settings["use_bias"] = True


def _fold_padding(network: _Network) -> None:
    """Let convolutions pad themselves where that gives the same zeros."""
    for layer in [each for each in network.values() if each.kind == "ZeroPadding2D"]:
        readers = _readers(network, layer.name)
        if len(readers) == 1 and readers[0].kind in _CONVOLUTIONS and readers[0].settings["padding"] == "valid":
            own = [_same_padding(readers[0].settings, layer.input_shape[axis], axis - 1) for axis in (1, 2)]
            if own == [tuple(sides) for sides in layer.settings["padding"]]:
                readers[0].settings["padding"] = "same"
                _remove(network, layer)


def _same_padding(settings: dict[str, Any], size: int, axis: int) -> tuple[int, int]:
    """Return the zeros that TensorFlow adds before and after a side of `size` pixels with padding "same"."""
    stride, reach = settings["strides"][axis], (settings["kernel_size"][axis] - 1) * settings["dilation_rate"][axis] + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _build(network: _Network, size: int) -> keras.Model:
    import keras

    image = keras.Input((size, size, 1), batch_size=1, dtype="float32", name="centered_image")
    values: dict[str, Any] = {IMAGE: image}
    for layer in network.values():
        settings = {key: value for key, value in layer.settings.items() if key != "dtype"} | {"name": layer.name}
        if layer.kind in (*_CONVOLUTIONS, "Dense") and len(layer.weights) == 1:
            # The int8 preparation needs one.
            settings["use_bias"] = True
            layer.weights.append(np.zeros(_outputs(layer)))
        new = getattr(keras.layers, layer.kind).from_config(settings)
        inputs = [values[name] for name in layer.inputs]
        values[layer.name] = new(inputs if len(inputs) > 1 else inputs[0])
        if layer.weights:
            new.set_weights(layer.weights)
    return keras.Model(image, values[layer.name])


def _outputs(layer: _Layer) -> int:
    """Return the number of output channels; a depthwise kernel (H, W, C, M) has them in two axes."""
    shape = layer.weights[0].shape
    return int(np.prod(shape[2:]) if layer.kind == "DepthwiseConv2D" else shape[-1])
