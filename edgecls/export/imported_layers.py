"""The layers of an imported network while it is rewritten: their settings, weights and inputs, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.graph import Array, sources_of

if TYPE_CHECKING:
    import keras

IMAGE = ""
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")


@dataclass
class Layer:
    """A layer of the network that is being rewritten; `inputs` are names of others, the image is IMAGE."""

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: list[str]
    weights: list[Array]
    input_shape: tuple[int, ...]

    @property
    def is_linear(self) -> bool:
        """True for a layer with a kernel and no activation."""
        return self.kind in (*CONVOLUTIONS, "Dense") and self.settings.get("activation") == "linear"

    @property
    def is_pointwise(self) -> bool:
        """True if each output reads one position of the input."""
        if self.kind == "Conv2D":
            return tuple(self.settings["kernel_size"]) == (1, 1) and self.settings["groups"] == 1
        return self.kind == "Dense"


Network = dict[str, Layer]


def read_network(model: keras.Model) -> Network:
    """Return the layers of a network of `imported.build.build_network`, in the order they run."""
    sources, image = sources_of(model), model.layers[0].name
    network = {}
    for layer in model.layers[1:]:
        inputs = [IMAGE if name == image else name for name in sources[layer.name]]
        weights = [np.asarray(each, np.float64) for each in layer.get_weights()]
        shape = tuple((layer.input[0] if len(inputs) > 1 else layer.input).shape)
        network[layer.name] = Layer(layer.name, type(layer).__name__, layer.get_config(), inputs, weights, shape)
    return network


def readers_of(network: Network, name: str) -> list[Layer]:
    """Return the layers that read the layer `name`."""
    return [layer for layer in network.values() if name in layer.inputs]


def remove(network: Network, layer: Layer) -> None:
    """Let the readers of a layer, all of whose inputs are the same, read its input instead."""
    source = layer.inputs[0]
    del network[layer.name]
    for reader in network.values():
        reader.inputs = [source if name == layer.name else name for name in reader.inputs]


def insert_after(network: Network, layer: Layer, new: Layer) -> None:
    """Let the readers of `layer` read `new`, which reads `layer`."""
    for reader in readers_of(network, layer.name):
        reader.inputs = [new.name if name == layer.name else name for name in reader.inputs]
    items = list(network.items())
    position = [name for name, _ in items].index(layer.name) + 1
    network.clear()
    network.update([*items[:position], (new.name, new), *items[position:]])


def build_core(network: Network, size: int) -> keras.Model:
    """Return the network as a Keras model from centered images, float32 (1, size, size, 1)."""
    import keras

    image = keras.Input((size, size, 1), batch_size=1, dtype="float32", name="centered_image")
    values: dict[str, Any] = {IMAGE: image}
    for layer in network.values():
        settings = {key: value for key, value in layer.settings.items() if key != "dtype"} | {"name": layer.name}
        if layer.kind in (*CONVOLUTIONS, "Dense") and len(layer.weights) == 1:
            # The int8 preparation needs one.
            settings["use_bias"] = True
            layer.weights.append(np.zeros(output_channels(layer)))
        is_grouped = layer.kind == "Conv2D" and settings["groups"] > 1
        new = (grouped_convolution() if is_grouped else getattr(keras.layers, layer.kind)).from_config(settings)
        inputs = [values[name] for name in layer.inputs]
        values[layer.name] = new(inputs if len(inputs) > 1 else inputs[0])
        if layer.weights:
            new.set_weights(layer.weights)
    return keras.Model(image, values[layer.name])


def grouped_convolution() -> type[keras.layers.Conv2D]:
    """Return a Conv2D that converters can read if it has several groups: Keras' own hides it in a compiled function."""
    import keras
    import tensorflow as tf

    class GroupedConv2D(keras.layers.Conv2D):  # type: ignore[misc]
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            if tf.executing_eagerly():
                # The converters' operation has no gradient on a CPU.
                return super().convolution_op(inputs, kernel)
            strides, dilations = list(self.strides), list(self.dilation_rate)
            return tf.nn.convolution(inputs, kernel, strides, self.padding.upper(), dilations=dilations)

    return GroupedConv2D


def copy_layer(layer: keras.layers.Layer, grouped_as: type[keras.layers.Conv2D]) -> keras.layers.Layer:
    """Return a layer with the same settings; a convolution in several groups is of the class `grouped_as`."""
    import keras

    is_grouped = isinstance(layer, keras.layers.Conv2D) and layer.groups > 1
    return (grouped_as if is_grouped else type(layer)).from_config(layer.get_config())


def output_channels(layer: Layer) -> int:
    """Return the number of output channels; a depthwise kernel (H, W, C, M) has them in two axes."""
    shape = layer.weights[0].shape
    return int(np.prod(shape[2:]) if layer.kind == "DepthwiseConv2D" else shape[-1])
