"""Prunes hidden channels that the images hardly use, in networks of inverted residual blocks."""

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
    apply_to_both,
    count_readers,
    damping,
    is_depthwise,
    is_understood,
    pair_inputs,
    sample_positions,
    sources_of,
    walk,
    with_weights,
)
from edgecls.export.quantization.perturb_images import perturb_some

if TYPE_CHECKING:
    import keras

# Runtimes compute 16 channels at once, with AVX-512 as with NEON: a few fewer save nothing.
STEP = 16
# One multiplication of a depthwise convolution takes as long as 8 of a pointwise one (XNNPACK with AVX-512 VNNI).
DEPTHWISE_COST = 8
# Positions of a layer's input that are used at most.
POSITIONS = 40_000
# With fewer positions than this, channels seem to replace each other but do not on other images: the 960 of the last
# blocks at 128 x 7 x 7 positions cost six times what they seemed to.
POSITIONS_PER_CHANNEL = 30
# Fraction of the images that are perturbed. With none, pruning as many channels changed the scores of noisy images
# twenty times as much.
PERTURBED_FRACTION = 0.5
DAMPING = 1e-4


def prune(fused: FusedModel, calibration: NDArray[np.uint8], max_kl: float = ExportConfig.prune) -> FusedModel:
    """Return a copy of `fused` with fewer hidden channels and nearly the same scores.

    The channels between the two pointwise convolutions of a block are removed one by one, first the one that the others
    replace best: Optimal Brain Surgeon, Hassibi & Stork 1993, for channels as in Kurtic et al. 2023 (arXiv:2302.04089),
    section 3. Errors are weighted by the Fisher information of the block's output, as in Theis et al. 2018
    (arXiv:1801.05787), so that the cost in all blocks has one unit: the KL divergence of the scores. The remaining
    weights are fitted again to the float network's output, which also corrects errors of earlier blocks.

    Args:
        fused: the network; it is not changed. A network without such blocks, or without a softmax at its end, is
            returned as it is.
        calibration: uint8 (N, S, S, 1), 0..255: training images, the classes mixed from the start.
        max_kl: maximum KL divergence of the scores from the float network's, in nats, for all time that the blocks
            take. At 0.005, a channel that takes 1 % of the time is removed if that costs at most 0.00005. 0 keeps all.
    """
    core = fused.core
    blocks = _blocks(core) if max_kl else []
    if not blocks:
        return fused
    start = pair_inputs(perturb_some(calibration, PERTURBED_FRACTION), fused.pad_gray)
    count = sum(len(exact) for exact, _ in start)
    chosen = [block for block in blocks if block.has_enough_positions(count)]
    if not chosen:
        return fused
    whole = sum(block.channel_time * block.channels for block in blocks)
    limits = {block.project.name: max_kl * block.channel_time / whole for block in chosen}
    fitted, kept = _choose_channels(core, limits, start)
    return FusedModel(_without(fitted, chosen, kept), fused.pad_gray)


def _choose_channels(
    core: keras.Model, limits: dict[str, float], start: Batches
) -> tuple[keras.Model, dict[str, Array]]:
    """Return a copy of `core` whose removed channels have the weight 0, and the channels that each layer keeps.

    Args:
        core: the network.
        limits: by the name of each layer that reads hidden channels, the divergence that removing one may cost.
        start: batches of inputs of both networks.
    """
    information = _information(core, [core.get_layer(name) for name in limits], start)
    pruned = with_weights(core, {})
    kept: dict[str, Array] = {}

    def step(layer: keras.layers.Layer, inputs: list[Batches]) -> Batches:
        if layer.name in limits:
            fit = _Fit(layer, inputs[0], information[layer.name])
            kept[layer.name] = fit.choose(limits[layer.name])
            pruned.get_layer(layer.name).set_weights(fit.weights(kept[layer.name]))
        if len(kept) == len(limits):
            return []
        if layer.weights:
            return [(layer(exact), pruned.get_layer(layer.name)(narrow)) for exact, narrow in inputs[0]]
        return [apply_to_both(layer, pairs) for pairs in zip(*inputs, strict=True)]

    walk(core, start, step)
    return pruned, kept


@dataclass(frozen=True, eq=False)
class _Block:
    """Three layers and the hidden channels between them: the first computes them, the last reads them."""

    expand: keras.layers.Layer
    depthwise: keras.layers.Layer
    project: keras.layers.Layer

    @property
    def channels(self) -> int:
        return int(self.project.kernel.shape[2])

    @property
    def positions(self) -> int:
        return int(np.prod(self.project.output.shape[1:3]))

    @property
    def channel_time(self) -> float:
        """The time of one channel, in multiplications of a pointwise convolution."""
        made = np.prod(self.expand.output.shape[1:3]) * np.prod(self.expand.kernel.shape[:3])
        filtered = DEPTHWISE_COST * np.prod(self.depthwise.kernel_size)
        return float(made + self.positions * (filtered + self.project.filters))

    def has_enough_positions(self, images: int) -> bool:
        return images * self.positions >= POSITIONS_PER_CHANNEL * self.channels


def _blocks(core: keras.Model) -> list[_Block]:
    """Return the blocks whose hidden channels no other layer reads, in the order they run; none without a softmax."""
    import keras
    from keras import layers as kinds

    # The cost of a channel is a divergence of probabilities.
    if getattr(core.layers[-1], "activation", None) is not keras.activations.softmax:
        return []
    sources = sources_of(core)
    read = count_readers(sources)

    def maker(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the layer whose channels `layer` reads, past ReLU and padding that it alone reads."""
        (name,) = sources[layer.name]
        source = core.get_layer(name)
        passes = isinstance(source, (kinds.ReLU, kinds.ZeroPadding2D)) and read[name] == 1
        return maker(source) if passes else source

    blocks = []
    for project in core.layers:
        if isinstance(project, kinds.Conv2D) and project.kernel_size == (1, 1) and is_understood(project):
            depthwise = maker(project)
            expand = maker(depthwise) if is_depthwise(depthwise) and depthwise.depth_multiplier == 1 else None
            if (
                isinstance(expand, kinds.Conv2D)
                and is_understood(expand)
                and read[depthwise.name] == read[expand.name] == 1
            ):
                blocks.append(_Block(expand, depthwise, project))
    return blocks


def _information(core: keras.Model, layers: list[keras.layers.Layer], start: Batches) -> dict[str, Array]:
    """Return for each layer the Fisher information of its output channels, summed over positions, float64 (O, O).

    Half of it, times the products of a small error, is the KL divergence of the scores that the error causes.
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
            # Labels are drawn from the network's own scores.
            drawn = (scores.numpy().cumsum(1) > random.uniform(0, 1, (len(scores), 1))).argmax(1)
            loss = -tf.reduce_sum(tf.math.log(tf.gather(scores, drawn, batch_dims=1) + 1e-9))
        for layer, gradient in zip(layers, tape.gradient(loss, outputs), strict=True):
            rows = tf.reshape(gradient, (-1, gradient.shape[-1]))
            total[layer.name] = total[layer.name] + tf.matmul(rows, rows, transpose_a=True).numpy().astype(np.float64)
    return {name: np.asarray(products / sum(len(images) for images, _ in start)) for name, products in total.items()}


class _Fit:
    """Fits the output of `layer` in the float network to its input in the pruned one.

    Args:
        layer: a pointwise convolution from I channels to O.
        inputs: its inputs in both networks.
        information: (O, O), see `_information`.
    """

    def __init__(self, layer: keras.layers.Layer, inputs: Batches, information: Array) -> None:
        kernel, self._bias = (np.asarray(values, np.float64) for values in layer.get_weights())
        exact, narrow = sample_positions(inputs, POSITIONS)
        wanted = exact @ kernel[0, 0]
        self._mean, self._wanted_mean = narrow.mean(0), wanted.mean(0)
        narrow, wanted = narrow - self._mean, wanted - self._wanted_mean
        products = narrow.T @ narrow / len(narrow)
        damped = damping(products, DAMPING)
        self._products = products + damped * np.eye(len(products))
        self._towards = narrow.T @ wanted / len(narrow) + damped * kernel[0, 0]
        self._information = information

    def choose(self, max_kl: float) -> Array:
        """Return the channels to keep, a multiple of STEP or all, if one may cost `max_kl` of divergence."""
        order, costs = self._eliminate(max_kl)
        channels = len(self._products)
        left = np.array([channels, *range(channels // STEP * STEP, channels - len(costs), -STEP)])
        best = left[np.argmin(costs[channels - left] + max_kl * left)]
        return np.sort(np.setdiff1d(np.arange(channels), order[: channels - best]))

    def weights(self, kept: Array) -> list[Array]:
        """Return kernel (1, 1, I, O), zero for the removed channels, and bias (O,)."""
        kernel = np.zeros_like(self._towards)
        kernel[kept] = np.linalg.solve(self._products[np.ix_(kept, kept)], self._towards[kept])
        return [kernel[None, None], self._bias + self._wanted_mean - self._mean @ kernel]

    def _eliminate(self, max_kl: float) -> tuple[Array, Array]:
        """Return the channels in order of removal, while it may pay, and the divergence after 0, 1, 2, ... removals."""
        inverse = np.linalg.inv(self._products)
        kernel = inverse @ self._towards
        weighted = kernel @ self._information
        order, costs, left, least = [], [0.0], np.arange(len(kernel)), max_kl * len(kernel)
        while len(left) > 1 and costs[-1] < least:
            losses = (kernel * weighted).sum(1) / 2 / np.maximum(np.diag(inverse), 1e-300)
            removed = int(losses.argmin())
            order.append(left[removed])
            costs.append(costs[-1] + losses[removed])
            others = np.delete(np.arange(len(left)), removed)
            column = inverse[others, removed] / inverse[removed, removed]
            kernel = kernel[others] - np.outer(column, kernel[removed])
            weighted = weighted[others] - np.outer(column, weighted[removed])
            inverse = inverse[np.ix_(others, others)] - np.outer(column, inverse[removed, others])
            left = left[others]
            least = min(least, costs[-1] + max_kl * len(left)) if len(left) % STEP == 0 else least
        return np.array(order, np.int64), np.array(costs)


def _without(core: keras.Model, blocks: list[_Block], kept: dict[str, Array]) -> keras.Model:
    """Return a copy of `core` whose blocks have only the channels `kept`, by the name of the layer that reads them."""
    import keras
    from keras import layers as kinds

    weights: Weights = {layer.name: layer.get_weights() for layer in core.layers if layer.weights}
    for block in blocks:
        channels = kept[block.project.name]
        expand, depthwise, project = (weights[layer.name] for layer in (block.expand, block.depthwise, block.project))
        expand[:] = [expand[0][..., channels], expand[1][channels]]
        depthwise[:] = [depthwise[0][:, :, channels], depthwise[1][channels]]
        project[0] = project[0][:, :, channels]
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
    """Merge pairs of pointwise convolutions into the second one's `weights`; return the names of the first ones.

    No activation lies between them and nothing else reads the first. Only pairs that then need no more multiplications
    are merged.
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
