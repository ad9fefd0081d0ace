"""Leaves out hidden channels that the images hardly use, in networks of inverted residual blocks.

Imports TensorFlow inside its functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import ExportConfig
from edgecls.export.fuse import FusedModel
from edgecls.export.graph import (
    Array,
    Batches,
    Weights,
    both_sides,
    count_readers,
    draw_places,
    each_side,
    is_depthwise,
    sources_of,
    walk,
    with_weights,
)
from edgecls.export.quantization.perturb import vary_some

if TYPE_CHECKING:
    import keras

# Runtimes compute 16 channels at once, with AVX-512 as with NEON: a few fewer save nothing.
STEP = 16
# A multiplication of a depthwise convolution takes as long as so many of a pointwise one (XNNPACK with AVX-512 VNNI).
DEPTHWISE_PRICE = 8
# What a layer reads, at most that many places of it.
PLACES = 40_000
# Channels that are seen at fewer places than this seem to make up for each other, but do not on other images: the 960
# of the last blocks at 128 x 7 x 7 places cost six times what they seemed to.
PLACES_PER_CHANNEL = 30
# Share of the images that are changed. Fitted to clean ones alone, as many channels gone made noisy images twenty times
# as different from the float model's scores.
VARIED = 0.5
# Added to the diagonal of the inputs' products, as a share of its mean.
DAMPING = 1e-4


def prune(fused: FusedModel, calibration: NDArray[np.uint8], price: float = ExportConfig.prune) -> FusedModel:
    """Return a copy of `fused` with fewer hidden channels, whose scores stay about what they were.

    Of the channels between the two pointwise convolutions of a block, the one goes whose loss the others make up for
    best, then the next: Optimal Brain Surgeon, Hassibi & Stork 1993, for channels as in Kurtic et al. 2023
    (arXiv:2302.04089), section 3. How much an error matters is the Fisher information of a block's output, as in Theis
    et al. 2018 (arXiv:1801.05787): so all blocks are measured in the same unit, the scores' divergence, and each gives
    up channels until the next ones cost more than their time is worth. What is left is fitted anew to what the float
    network gives, errors of earlier blocks included.

    Args:
        fused: the network; it is left as it is. One without such blocks is given back.
        calibration: uint8 (N, S, S, 1), 0..255: training images, classes mixed from the first on.
        price: what all blocks' time is worth, as divergence of the scores (KL, in nats) that is expected of the float
            network: of 0.005, a channel goes that takes a hundredth of the time if that costs no more than 0.00005. 0
            keeps all channels.
    """
    core = fused.core
    blocks = _blocks(core) if price else []
    if not blocks:
        return fused
    start = both_sides(vary_some(calibration, VARIED), fused.pad_gray)
    whole = sum(block.channel_time * block.channels for block in blocks)
    count = sum(len(exact) for exact, _ in start)
    readers = {block.project.name: block for block in blocks if block.is_seen_well(count)}
    if not readers:
        return fused
    information = _information(core, [block.project for block in readers.values()], start)
    pruned = with_weights(core, {})
    kept: dict[str, Array] = {}

    def step(layer: keras.layers.Layer, inputs: list[Batches]) -> Batches:
        if layer.name in readers:
            block = readers[layer.name]
            fit = _Fit(layer, inputs[0], information[layer.name])
            kept[layer.name] = fit.choose(price * block.channel_time / whole)
            pruned.get_layer(layer.name).set_weights(fit.weights(kept[layer.name]))
        if len(kept) == len(readers):
            return []
        if layer.weights:
            return [(layer(exact), pruned.get_layer(layer.name)(narrow)) for exact, narrow in inputs[0]]
        return [each_side(layer, pairs) for pairs in zip(*inputs, strict=True)]

    walk(core, start, step)
    return FusedModel(_without(pruned, list(readers.values()), kept), fused.pad_gray)


@dataclass(frozen=True, eq=False)
class _Block:
    """Three layers with the hidden channels between them: made by the first, read by the last."""

    expand: keras.layers.Layer
    depthwise: keras.layers.Layer
    project: keras.layers.Layer

    @property
    def channels(self) -> int:
        return int(self.project.kernel.shape[2])

    @property
    def places(self) -> int:
        return int(np.prod(self.project.output.shape[1:3]))

    @property
    def channel_time(self) -> float:
        """Return the time of one channel, in multiplications of a pointwise convolution."""
        made = np.prod(self.expand.output.shape[1:3]) * np.prod(self.expand.kernel.shape[:3])
        filtered = DEPTHWISE_PRICE * np.prod(self.depthwise.kernel_size)
        return float(made + self.places * (filtered + self.project.filters))

    def is_seen_well(self, images: int) -> bool:
        """Return True if so many images show how the channels go together."""
        return images * self.places >= PLACES_PER_CHANNEL * self.channels


def _blocks(core: keras.Model) -> list[_Block]:
    """Return the blocks in which nothing else reads the hidden channels, in the order they run."""
    from keras import layers as kinds

    sources = sources_of(core)
    read = count_readers(sources)

    def maker(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the layer with weights whose channels alone `layer` reads."""
        (name,) = sources[layer.name]
        source = core.get_layer(name)
        passes = isinstance(source, (kinds.ReLU, kinds.ZeroPadding2D)) and read[name] == 1
        return maker(source) if passes else source

    blocks = []
    for project in core.layers:
        if isinstance(project, kinds.Conv2D) and project.kernel_size == (1, 1):
            depthwise = maker(project)
            expand = maker(depthwise) if is_depthwise(depthwise) and depthwise.depth_multiplier == 1 else None
            if isinstance(expand, kinds.Conv2D) and read[depthwise.name] == read[expand.name] == 1:
                blocks.append(_Block(expand, depthwise, project))
    return blocks


def _information(core: keras.Model, layers: list[keras.layers.Layer], start: Batches) -> dict[str, Array]:
    """Return by layer the Fisher information of its output channels at all places together, float64 (O, O).

    Half of it, times an error's products, is the divergence of the scores that the error causes, as long as it is small
    and differs from place to place.
    """
    import keras
    import tensorflow as tf

    random = np.random.default_rng(0)
    probe = keras.Model(core.input, [layer.output for layer in layers] + [core.output])
    total = {layer.name: np.zeros(()) for layer in layers}
    for images, _ in start:
        with tf.GradientTape() as tape:
            tape.watch(images)
            *outputs, scores = probe(images, training=False)
            # Labels as the network itself would draw them.
            drawn = (scores.numpy().cumsum(1) > random.uniform(0, 1, (len(scores), 1))).argmax(1)
            loss = -tf.reduce_sum(tf.math.log(tf.gather(scores, drawn, batch_dims=1) + 1e-9))
        for layer, gradient in zip(layers, tape.gradient(loss, outputs), strict=True):
            rows = tf.reshape(gradient, (-1, gradient.shape[-1]))
            total[layer.name] = total[layer.name] + tf.matmul(rows, rows, transpose_a=True).numpy().astype(np.float64)
    return {name: np.asarray(products / sum(len(images) for images, _ in start)) for name, products in total.items()}


class _Fit:
    """How well what `layer` gives in the exact network can be made of what it reads in the pruned one.

    Args:
        layer: a pointwise convolution, of I channels into O.
        inputs: what it reads in both.
        information: (O, O), see `_information`.
    """

    def __init__(self, layer: keras.layers.Layer, inputs: Batches, information: Array) -> None:
        kernel, self._bias = (np.asarray(values, np.float64) for values in layer.get_weights())
        exact, narrow = draw_places(inputs, PLACES)
        wanted = exact @ kernel[0, 0]
        self._mean, self._wanted_mean = narrow.mean(0), wanted.mean(0)
        narrow, wanted = narrow - self._mean, wanted - self._wanted_mean
        products = narrow.T @ narrow / len(narrow)
        damping = DAMPING * np.mean(np.diag(products)) + 1e-12
        self._products = products + damping * np.eye(len(products))
        self._towards = narrow.T @ wanted / len(narrow) + damping * kernel[0, 0]
        self._information = information

    def choose(self, price: float) -> Array:
        """Return the channels that stay, at a `price` of each in divergence: STEP or a multiple, or all."""
        order, costs = self._eliminate()
        channels = len(self._products)
        # All of them, or full steps only.
        left = np.array([channels, *range(channels // STEP * STEP, 0, -STEP)])
        best = left[np.argmin(costs[channels - left] + price * left)]
        return np.sort(np.setdiff1d(np.arange(channels), order[: channels - best]))

    def weights(self, kept: Array) -> list[Array]:
        """Return kernel (1, 1, I, O), zero for the channels that go, and bias (O,)."""
        kernel = np.zeros_like(self._towards)
        kernel[kept] = np.linalg.solve(self._products[np.ix_(kept, kept)], self._towards[kept])
        return [kernel[None, None], self._bias + self._wanted_mean - self._mean @ kernel]

    def _eliminate(self) -> tuple[Array, Array]:
        """Return the channels in the order they go, and the expected divergence with 0, 1, 2, ... of them gone."""
        inverse = np.linalg.inv(self._products)
        kernel = inverse @ self._towards
        order, costs = [], [0.0]
        left = np.ones(len(kernel), bool)
        for _ in range(len(kernel) - 1):
            powers = np.einsum("io,op,ip->i", kernel, self._information, kernel, optimize=True)
            prices = np.where(left, powers / 2 / np.maximum(np.diag(inverse), 1e-300), np.inf)
            goes = int(prices.argmin())
            column = inverse[:, goes] / inverse[goes, goes]
            kernel = kernel - np.outer(column, kernel[goes])
            inverse = inverse - np.outer(column, inverse[goes])
            left[goes] = False
            order.append(goes)
            costs.append(costs[-1] + prices[goes])
        return np.array(order), np.array(costs)


def _without(core: keras.Model, blocks: list[_Block], kept: dict[str, Array]) -> keras.Model:
    """Return a copy of `core` whose blocks have only the channels `kept`, by the name of what reads them."""
    import keras
    from keras import layers as kinds

    weights: Weights = {layer.name: layer.get_weights() for layer in core.layers if layer.weights}
    for block in blocks:
        channels = kept[block.project.name]
        kernel, bias = weights[block.expand.name]
        weights[block.expand.name] = [kernel[..., channels], bias[channels]]
        kernel, bias = weights[block.depthwise.name]
        weights[block.depthwise.name] = [kernel[:, :, channels], bias[channels]]
        kernel, bias = weights[block.project.name]
        weights[block.project.name] = [kernel[:, :, channels], bias]
    merged = _merge_pointwise(core, weights)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if isinstance(layer, kinds.Conv2D) and layer.name in weights:
            settings["filters"] = weights[layer.name][0].shape[-1]
        return type(layer).from_config(settings)

    def call(layer: keras.layers.Layer, *inputs: Any, **settings: Any) -> keras.KerasTensor:
        return inputs[0] if layer.name in merged else layer(*inputs, **settings)

    image = keras.Input(core.input.shape[1:], batch_size=1, dtype="float32", name=core.layers[0].name)
    narrow = keras.models.clone_model(core, input_tensors=image, clone_function=clone, call_function=call)
    for layer in narrow.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return narrow


def _merge_pointwise(core: keras.Model, weights: Weights) -> set[str]:
    """Return the pointwise convolutions whose `weights` went into those of the only one that reads them.

    Nothing bends between two such, so they are one. Only where that multiplies no more often than the two.
    """
    from keras import layers as kinds

    sources = sources_of(core)
    read = count_readers(sources)
    merged = set()
    for layer in core.layers:
        names = sources[layer.name]
        pair = [layer, *map(core.get_layer, names)]
        pointwise = all(isinstance(each, kinds.Conv2D) and each.kernel_size == (1, 1) for each in pair)
        if not pointwise or read[names[0]] > 1 or any(each.strides != (1, 1) for each in pair):
            continue
        (first, first_bias), (second, second_bias) = weights[names[0]], weights[layer.name]
        inside, between, outside = *first.shape[2:], second.shape[3]
        if inside * outside <= between * (inside + outside):
            weights[layer.name] = [first @ second, first_bias @ second[0, 0] + second_bias]
            merged.add(names[0])
    return merged
