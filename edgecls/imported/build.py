"""Builds the network of an imported model: from gray images to scores, all layers in one flat Keras model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ModelFileError
from edgecls.imported.graph import LayerCall, LayerGraph
from edgecls.imported.model_file import KerasFile
from edgecls.imported.scaling import Scaling
from edgecls.limits import MAX_IMAGE_SIZE
from edgecls.networks.imported import BOTH_CLASSES, GRAY_TO_RGB, is_copied

if TYPE_CHECKING:
    import keras

# Values in the output of one layer for one image; VGG16 on 1024x1024 pixels has 67 million.
MOST_OUTPUTS = 2**27
# The smallest standard deviation of Keras' Normalization (keras.config.epsilon).
LEAST_DEVIATION = 1e-7
# Layers that only change the shape of scores; whose result is scores too if all that they read is; and whose result is
# then neither scores nor logits.
_SHAPING = ("Flatten", "Reshape")
_AVERAGING = (*_SHAPING, "Average", "AveragePooling2D", "Concatenate", "GlobalAveragePooling2D")
_MIXING = ("Add", "GlobalMaxPooling2D", "MaxPooling2D", "Maximum", "Minimum", "Multiply", "Rescaling", "Subtract")
_SCALING = ("Rescaling", "Normalization", "LayerNormalization")
# Layers whose output is no logit.
_RECTIFYING = ("ReLU", "LeakyReLU", "PReLU", "ELU")

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Source:
    """The layers and weights of an imported model.

    Attributes:
        graph: its layers.
        weights: of each layer that has some, by the name of its node.
    """

    graph: LayerGraph
    weights: dict[str, Arrays]

    @property
    def image_size(self) -> int | None:
        """Side of its square input in pixels, or None if it takes images of any size.

        Raises:
            ModelFileError: its input is not a square gray or RGB image.
        """
        shape = self.graph.input_shape
        if len(shape) == 1 and shape[0] and math.isqrt(shape[0]) ** 2 == shape[0]:
            return math.isqrt(shape[0])
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
            remedy = ""
            if len(shape) == 3 and shape[0] in (1, 3):
                remedy = (
                    ". Save keras.Model(image, model(keras.layers.Permute((3, 1, 2))(image))) with image = "
                    f"keras.Input({(*shape[1:], shape[0])})"
                )
            raise ModelFileError(
                f"it takes inputs {shape}; images (side, side, channels) of 1 or 3 channels are supported{remedy}"
            )
        if shape[0] != shape[1]:
            raise ModelFileError(f"it takes images of {shape[0]} x {shape[1]} pixels; only square images are supported")
        if shape[0] is not None and not 1 <= shape[0] <= MAX_IMAGE_SIZE:
            raise ModelFileError(f"it takes images of {shape[0]} pixels; 1 to {MAX_IMAGE_SIZE} are supported")
        return shape[0]

    @property
    def channels(self) -> int:
        """1 for gray images, 3 for RGB."""
        shape = self.graph.input_shape
        return int(shape[2] or 0) if len(shape) == 3 else 1

    @property
    def scales_itself(self) -> bool:
        """True if the image is scaled before anything else is computed from it."""
        value = ""
        while len(readers := [node for node in self.graph.nodes if value in node.inputs]) == 1:
            (node,) = readers
            if node.kind in _SCALING:
                return True
            if node.kind not in (*_SHAPING, "ZeroPadding2D", "Resizing") and not is_copied(
                node.kind, node.settings, node.inputs
            ):
                return False
            value = node.name
        return False

    def node(self, name: str) -> LayerCall:
        """Return the node of this name."""
        return next(node for node in self.graph.nodes if node.name == name)


def read_source(file: KerasFile, graph: LayerGraph) -> Source:
    """Return the layers with their weights."""
    found = {node.name: file.weights(node.path, node.scope) for node in graph.nodes if node.path}
    return Source(graph, {name: arrays for name, arrays in found.items() if arrays})


def build_float(source: Source, image_size: int) -> keras.Model:
    """Return the model as it was trained: float32 (N, S, S, channels) -> scores, float32 (N, C), 0..1.

    Raises:
        ModelFileError: a layer does not fit its weights or is too large, or the output cannot become scores.
    """
    import keras

    image = keras.Input((image_size, image_size, source.channels), dtype="float32", name="image")
    return _join(image, _scores(source, _body(source, image)))


def build_network(source: Source, image_size: int, scaling: Scaling) -> keras.Model:
    """Return the network of the run: gray image, uint8 (N, S, S, 1), 0..255 -> scores, float32 (N, C), 0..1.

    Raises:
        ModelFileError: as of `build_float`.
    """
    import keras
    from keras import layers

    image = keras.Input((image_size, image_size, 1), dtype="uint8", name="image")
    if source.channels == 1:
        x = layers.Rescaling(scaling.scale[0], scaling.offset[0], name="scaling")(image)
    else:
        to_rgb = layers.Conv2D(3, 1, name=GRAY_TO_RGB)
        x = to_rgb(layers.Rescaling(1.0, name="scaling")(image))
        to_rgb.set_weights([np.array(scaling.scale).reshape(1, 1, 1, 3), np.array(scaling.offset)])
    return _join(image, _scores(source, _body(source, x)))


def _join(image: keras.KerasTensor, scores: keras.KerasTensor) -> keras.Model:
    import keras

    try:
        return keras.Model(image, scores, name="imported")
    except RecursionError as error:
        # Keras follows the layers from the last to the first one by recursion.
        raise ModelFileError("it has more layers in a row than Keras can follow; leave some out") from error


def _body(source: Source, image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Return the outputs of all nodes, by name."""
    values: dict[str, Any] = {"": _shaped(image, source.graph.input_shape)}
    for node in source.graph.nodes:
        values[node.name] = _apply(node, [values[name] for name in node.inputs], source.weights.get(node.name, []))
    return values


def _shaped(image: keras.KerasTensor, shape: Sequence[int | None]) -> keras.KerasTensor:
    from keras import layers

    if len(shape) == 3:
        return image
    return layers.Reshape(image.shape[1:3] if len(shape) == 2 else (-1,), name="shaped_image")(image)


def _apply(node: LayerCall, inputs: list[keras.KerasTensor], weights: Arrays) -> keras.KerasTensor:
    """Return the output of a node; its layer gets the weights.

    Raises:
        ModelFileError: the layer cannot be built, is too large or does not fit its weights.
    """
    import keras

    try:
        # First without values, to see how large it is: nothing is allocated.
        with keras.StatelessScope(initialize_variables=False):
            layer = _make(node, weights)
            output = layer(_one_or_all([keras.KerasTensor(each.shape, each.dtype) for each in inputs]))
        _check(node, layer, output, weights)
        layer = _make(node, weights)
        output = layer(_one_or_all(inputs))
        if layer.weights:
            layer.set_weights(weights)
    except ModelFileError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelFileError(f"layer {node.name!r} ({node.kind}) cannot be built: {error!s:.200}") from error
    return output


def _one_or_all(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]


def _check(node: LayerCall, layer: keras.layers.Layer, output: keras.KerasTensor, weights: Arrays) -> None:
    size = math.prod(side or 1 for side in output.shape[1:])
    if size > MOST_OUTPUTS:
        raise ModelFileError(f"layer {node.name!r} has {size:,} outputs for one image; it is too large")
    wanted, received = [tuple(each.shape) for each in layer.weights], [each.shape for each in weights]
    if layer.weights and wanted != received:
        raise ModelFileError(
            f"layer {node.name!r} ({node.kind}) needs weights of the shapes {wanted!s:.100}; the file has "
            f"{received!s:.100}"
        )


def _make(node: LayerCall, weights: Arrays) -> keras.layers.Layer:
    from keras import layers

    if node.kind == "Normalization":
        return layers.Rescaling(**_normalization(node, weights), name=node.name)
    layer: keras.layers.Layer = getattr(layers, node.kind)(**node.settings, name=node.name)
    return layer


def _normalization(node: LayerCall, weights: Arrays) -> dict[str, Any]:
    """Return scale and offset of a Normalization layer: (x - mean) / standard deviation."""
    mean, variance = node.settings.get("mean"), node.settings.get("variance")
    if mean is None:
        mean, variance = weights[:2] if len(weights) >= 2 else (0.0, 1.0)
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    if mean.size != (mean.shape or (1,))[-1]:
        raise ModelFileError(f"layer {node.name!r} (Normalization) has a mean for each pixel; use axis=-1")
    deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
    inverted = bool(node.settings.get("invert"))
    scale, offset = (deviation, mean) if inverted else (1 / deviation, -mean / deviation)
    return {"scale": scale.reshape(-1).tolist(), "offset": offset.reshape(-1).tolist()}


def _scores(source: Source, values: dict[str, keras.KerasTensor]) -> keras.KerasTensor:
    """Return scores (N, C): softmax of logits, and of 0 and the logit where one output stands for two classes."""
    from keras import layers

    output, last = values[source.graph.output], source.node(source.graph.output)
    while last.kind in _SHAPING and last.inputs[0]:
        last = source.node(last.inputs[0])
    if len(output.shape) > 2:
        output = layers.Flatten(name="flat_scores")(output)
    activation = _activation(last)
    count = output.shape[-1]
    if (last.kind == "Activation" and activation not in ("softmax", "sigmoid")) or last.kind in _RECTIFYING:
        raise ModelFileError(
            f"its last layer {last.name!r} is {activation or last.kind}, which gives no scores; it must be softmax, "
            "sigmoid or none (logits)"
        )
    if not activation and _gives_scores(source, last, count):
        return output
    if count == 1 and activation == "softmax":
        raise ModelFileError("its last layer is a softmax of one output, which is always 1; use a sigmoid")
    if count == 1:
        logit = values[last.inputs[0]] if activation == "sigmoid" else output
        both = layers.Dense(2, name=BOTH_CLASSES)
        output = both(logit if len(logit.shape) == 2 else layers.Flatten(name="flat_logit")(logit))
        both.set_weights([np.array([[0.0, 1.0]]), np.zeros(2)])
        activation = ""
    return output if activation else layers.Activation("softmax", name="scores")(output)


def _activation(node: LayerCall) -> str:
    return "softmax" if node.kind == "Softmax" else str(node.settings.get("activation", ""))


def _gives_scores(source: Source, last: LayerCall, count: int) -> bool:
    """Return True if the last node gives scores, 0..1, as an average of softmaxes, and False if it gives logits.

    Raises:
        ModelFileError: it computes something else of scores, or one score for two classes.
    """
    found: dict[str, bool | None] = {"": False}  # None for something else
    for node in source.graph.nodes:
        read = [found[name] for name in node.inputs]
        is_neutral = node.kind == "Rescaling" and (node.settings.get("scale"), node.settings.get("offset", 0)) == (1, 0)
        found[node.name] = _activation(node) in ("softmax", "sigmoid")
        if node.kind in _AVERAGING or is_neutral:
            found[node.name] = None if None in read else all(read)
        elif node.kind in _MIXING and False not in read:
            found[node.name] = None
    gives = found[last.name]
    if gives is None or (gives and count == 1):
        raise ModelFileError(
            f"layer {last.name!r} ({last.kind}) computes the result of scores, which cannot be imported; save the "
            "model with a softmax, a sigmoid or nothing (logits) at its end"
        )
    return gives
