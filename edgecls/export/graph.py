"""Steps through a fused network layer by layer: what reads what, and what goes in and out of each."""

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
# What a layer gives, some images at a time: first by the float network, second by the one that is made of it.
Batches = list[tuple[Any, Any]]

# 128 images of 224x224; larger ones have more pixels each. With 64 the files differed a third more from the float model
# on clothes.
SWEEP_PIXELS = 128 * 224 * 224
# What a layer computes at once: more only takes memory.
BATCH_PIXELS = 8 * 224 * 224
LEAST_IMAGES = 16


def walk(core: keras.Model, start: Any, step: Callable[[keras.layers.Layer, list[Any]], Any]) -> None:
    """Call `step` on every layer in order with what it made of the layers before; values go once they are read."""
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
    """Yield `images` (N, H, W, 1) some at a time: as many as have no more than `pixels` together, but one at least."""
    size = max(1, pixels // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def both_sides(calibration: NDArray[np.uint8], pad_gray: int) -> Batches:
    """Return what both networks read: images of uint8 (N, S, S, 1), as many as a sweep takes, centred on `pad_gray`."""
    import tensorflow as tf

    count = max(LEAST_IMAGES, SWEEP_PIXELS // (calibration.shape[1] * calibration.shape[2]))
    batches = in_batches(calibration[:count], BATCH_PIXELS)
    return [(image, image) for image in (tf.constant(batch.astype(np.float32) - pad_gray) for batch in batches)]


def each_side(layer: keras.layers.Layer, pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return what `layer`, which has no weights, makes of the first and of the second sides."""
    first, second = (list(side) for side in zip(*pairs, strict=True))
    return layer(one_or_all(first)), layer(one_or_all(second))


def draw_places(batches: Sequence[tuple[Any, ...]], count: int) -> list[Array]:
    """Return what the tensors (N, ..., C) of each batch hold at the same places, float64 (P, C) each, drawn at random.

    Args:
        batches: tensors of one shape but for their channels, some images at a time.
        count: P at most, or a few more.
    """
    random = np.random.default_rng(0)
    chosen = []
    for batch in batches:
        sides = [side.numpy().reshape(-1, side.shape[-1]) for side in batch]
        places = len(sides[0])
        rows = random.choice(places, min(places, -(-count // len(batches))), replace=False)
        chosen.append([side[rows] for side in sides])
    return [np.concatenate(side).astype(np.float64) for side in zip(*chosen, strict=True)]


def sources_of(core: keras.Model) -> dict[str, list[str]]:
    """Return, by layer name, the layers that it reads."""
    made_by = {id(layer.output): layer.name for layer in core.layers}
    sources: dict[str, list[str]] = {core.layers[0].name: []}
    for layer in core.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources[layer.name] = [made_by[id(tensor)] for tensor in inputs]
    return sources


def count_readers(sources: dict[str, list[str]]) -> Counter[str]:
    """Return, by layer name, how often the layer is read, of what `sources_of` returns."""
    return Counter(name for names in sources.values() for name in names)


def one_or_all(values: list[Any]) -> Any:
    """Return the values as a Keras layer takes them: a list only if there are several."""
    return values if len(values) > 1 else values[0]


def with_weights(core: keras.Model, weights: Weights) -> keras.Model:
    """Return a copy of `core` with its own weights, but for those given by layer name."""
    import keras

    copy = keras.models.clone_model(core)
    copy.set_weights(core.get_weights())
    for name, values in weights.items():
        copy.get_layer(name).set_weights(values)
    return copy


def is_depthwise(layer: keras.layers.Layer) -> bool:
    """Return True for a depthwise convolution, whose output channels are its kernel's third axis."""
    import keras

    return isinstance(layer, keras.layers.DepthwiseConv2D)


def per_output(layer: keras.layers.Layer, values: Array) -> Array:
    """Return `values` of each output channel in the shape that multiplies the kernel of `layer`."""
    return values[:, None] if is_depthwise(layer) else values
