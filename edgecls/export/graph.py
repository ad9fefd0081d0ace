"""Walks through a fused network layer by layer: which layer reads which, and what each computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
# Kernel and bias, by layer name.
Weights = dict[str, list[Array]]
# A layer's outputs for some images at a time: the float network's and those of the network made from it.
Batches = list[tuple[Any, Any]]

# 128 images of 224x224. With 64, files differed a third more from the float model on clothes.
SWEEP_PIXELS = 128 * 224 * 224
# Computed at once; more only takes memory.
BATCH_PIXELS = 8 * 224 * 224
LEAST_IMAGES = 16


def walk(core: keras.Model, start: Any, step: Callable[[keras.layers.Layer, list[Any]], Any]) -> None:
    """Call `step` on every layer in order with its results for the layers before; a result is freed after its use."""
    sources = sources_of(core)
    unread = count_readers(sources)
    values: dict[str, Any] = {}
    for layer in core.layers:
        names = sources[layer.name]
        values[layer.name] = step(layer, [values[name] for name in names]) if names else start
        for name in names:
            unread[name] -= 1
            if not unread[name]:
                del values[name]


def in_batches(images: Array, pixels: int) -> Iterator[Array]:
    """Yield `images` (N, H, W, 1) in batches of at most `pixels` pixels, but of one image at least."""
    size = max(1, pixels // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def pair_inputs(calibration: NDArray[np.uint8], pad_gray: float) -> Batches:
    """Return the input of both networks: the first images, uint8 (N, S, S, 1), that a sweep takes, less `pad_gray`."""
    import tensorflow as tf

    count = max(LEAST_IMAGES, SWEEP_PIXELS // (calibration.shape[1] * calibration.shape[2]))
    batches = in_batches(calibration[:count], BATCH_PIXELS)
    return [(image, image) for image in (tf.constant(batch.astype(np.float32) - pad_gray) for batch in batches)]


def apply_to_both(layer: keras.layers.Layer, pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the outputs of `layer`, which has no weights, for the float and for the quantized activations."""
    first, second = (list(inputs) for inputs in zip(*pairs, strict=True))
    return layer(one_or_all(first)), layer(one_or_all(second))


def sample_positions(batches: Sequence[tuple[Any, ...]], count: int) -> list[Array]:
    """Return the values of the tensors (N, ..., C) at the same random positions, float64 (P, C) each.

    Args:
        batches: tensors that differ in shape only by their channels, some images at a time.
        count: P at most, or a few more.
    """
    random = np.random.default_rng(0)
    chosen = []
    for batch in batches:
        tensors = [tensor.numpy().reshape(-1, tensor.shape[-1]) for tensor in batch]
        positions = len(tensors[0])
        rows = random.choice(positions, min(positions, -(-count // len(batches))), replace=False)
        chosen.append([tensor[rows] for tensor in tensors])
    return [np.concatenate(values).astype(np.float64) for values in zip(*chosen, strict=True)]


def damping(products: Array, fraction: float) -> float:
    """Return what is added to the diagonal of `products` before it is inverted: a fraction of the diagonal's mean."""
    return float(fraction * np.mean(np.diag(products)) + 1e-12)


def sources_of(core: keras.Model) -> dict[str, list[str]]:
    """Return for each layer, by name, the layers that it reads."""
    made_by = {id(layer.output): layer.name for layer in core.layers}
    sources: dict[str, list[str]] = {core.layers[0].name: []}
    for layer in core.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources[layer.name] = [made_by[id(tensor)] for tensor in inputs]
    return sources


def count_readers(sources: dict[str, list[str]]) -> Counter[str]:
    """Return for each layer, by name, how many layers read it. `sources` comes from `sources_of`."""
    return Counter(name for names in sources.values() for name in names)


def one_or_all(values: list[Any]) -> Any:
    """Return a Keras layer's input: a list only if there are several."""
    return values if len(values) > 1 else values[0]


def with_weights(core: keras.Model, weights: Weights) -> keras.Model:
    """Return a copy of `core` in which `weights`, by layer name, replace its own."""
    import keras

    copy = keras.models.clone_model(core)
    copy.set_weights(core.get_weights())
    for name, values in weights.items():
        copy.get_layer(name).set_weights(values)
    return copy


def is_understood(layer: keras.layers.Layer) -> bool:
    """Return True for a layer that the int8 preparation may change: a convolution in one group or a dense layer."""
    from keras import layers as kinds

    if isinstance(layer, kinds.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1)
    return isinstance(layer, kinds.Dense) or (isinstance(layer, kinds.Conv2D) and layer.groups == 1)


def is_depthwise(layer: keras.layers.Layer) -> bool:
    """Return True for a depthwise convolution, whose output channels are its kernel's third axis."""
    import keras

    return isinstance(layer, keras.layers.DepthwiseConv2D)


def per_output(layer: keras.layers.Layer, values: Array) -> Array:
    """Return `values` of each output channel in the shape that multiplies the kernel of `layer`."""
    return values[:, None] if is_depthwise(layer) else values
