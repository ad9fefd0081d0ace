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
from edgecls.imported.outputs import SHAPING, UNKNOWN, Loss, make_scores, read_loss
from edgecls.imported.scaling import Scaling
from edgecls.limits import MAX_IMAGE_SIZE
from edgecls.networks.imported import GRAY_TO_RGB, is_copied

if TYPE_CHECKING:
    import keras

# Values in the output of one layer for one image; VGG16 on 1024x1024 pixels has 67 million.
MOST_OUTPUTS = 2**27
# The smallest standard deviation of Keras' Normalization (keras.config.epsilon).
LEAST_DEVIATION = 1e-7
# Layers that scale the image.
_SCALING = ("Rescaling", "Normalization", "LayerNormalization")

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Source:
    """The layers and weights of an imported model.

    Attributes:
        graph: its layers.
        weights: of each layer that has some, by the name of its node.
        loss: that it was trained with.
    """

    graph: LayerGraph
    weights: dict[str, Arrays]
    loss: Loss = UNKNOWN

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
            if node.kind not in (*SHAPING, "ZeroPadding2D", "Resizing") and not is_copied(
                node.kind, node.settings, node.inputs
            ):
                return False
            value = node.name
        return False


def read_source(file: KerasFile, graph: LayerGraph) -> Source:
    """Return the layers with their weights."""
    found = {node.name: file.weights(node.path, node.scope) for node in graph.nodes if node.path}
    return Source(graph, {name: arrays for name, arrays in found.items() if arrays}, read_loss(file.training))


def build_float(source: Source, image_size: int) -> keras.Model:
    """Return the model as it was trained: float32 (N, S, S, channels) -> scores, float32 (N, C), 0..1.

    Raises:
        ModelFileError: a layer does not fit its weights or is too large, or the output cannot become scores.
    """
    import keras

    image = keras.Input((image_size, image_size, source.channels), dtype="float32", name="image")
    return _join(image, make_scores(source.graph, _body(source, image), source.loss))


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
    return _join(image, make_scores(source.graph, _body(source, x), source.loss))


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
