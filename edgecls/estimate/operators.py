"""The operators of a network, counted from its settings, without a file or TensorFlow.

`graph_operators` reads the same list from an exported file. Reformatting (pads, casts, quantization, reshapes) and
activations are left out: engines fuse most of them, and the two file formats write them differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError

# "pointwise" is a 1x1 convolution, "other" an addition or pooling of feature maps.
Kind = Literal["pointwise", "depthwise", "convolution", "dense", "other"]
KINDS: tuple[Kind, ...] = ("pointwise", "depthwise", "convolution", "dense", "other")
# Bytes of a weight. Weights of 16 bits are computed in 32 on a CPU.
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
# Expansion, outputs, repetitions and first stride of each stage: Sandler et al. 2018, arXiv:1801.04381, table 2.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LAST_FILTERS = 1280


@dataclass(frozen=True)
class Operator:
    """One operator."""

    kind: Kind  # one of `KINDS`
    multiply_adds: int  # of one image
    weights: int  # how many, biases left out
    values: int  # that it reads and writes, weights left out


@dataclass(frozen=True)
class Network:
    """A network to estimate."""

    name: str  # for people
    arch: str  # what networks of other sizes and widths have in common with it
    operators: tuple[Operator, ...]  # in the order they run

    @property
    def multiply_adds(self) -> int:
        """Return the multiply-adds of one image."""
        return sum(operator.multiply_adds for operator in self.operators)

    @property
    def weights(self) -> int:
        """Return how many weights there are, biases left out."""
        return sum(operator.weights for operator in self.operators)

    @property
    def values(self) -> int:
        """Return how many values of feature maps are read and written for one image."""
        return sum(operator.values for operator in self.operators)

    def count(self, kind: Kind) -> int:
        """Return how many operators are of a kind."""
        return sum(operator.kind == kind for operator in self.operators)

    def multiply_adds_of(self, kind: Kind) -> int:
        """Return the multiply-adds of one kind of operator."""
        return sum(operator.multiply_adds for operator in self.operators if operator.kind == kind)


def convolution(pixels: int, pixels_in: int, kernel: int, inputs: int, outputs: int, group: int = 1) -> Operator:
    """Return a convolution that gives `pixels` pixels of `outputs` channels.

    Args:
        pixels: height times width of the result.
        pixels_in: the same of what it reads.
        kernel: height times width of the kernel.
        inputs: channels that it reads.
        outputs: channels that it gives.
        group: parts that the channels are split into.
    """
    depthwise = group == inputs and group > 1
    kind: Kind = "depthwise" if depthwise else "pointwise" if kernel == 1 else "convolution"
    weights = kernel * (inputs // group) * outputs
    return Operator(kind, pixels * weights, weights, pixels_in * inputs + pixels * outputs)


def dense(inputs: int, outputs: int) -> Operator:
    """Return a fully connected layer."""
    return Operator("dense", inputs * outputs, inputs * outputs, inputs + outputs)


def other(values: int) -> Operator:
    """Return an addition or a pooling that reads and writes so many values."""
    return Operator("other", 0, 0, values)


def count_network(config: TrainConfig, class_count: int) -> Network:
    """Return the operators of the network that `config` trains and `edgecls export` writes.

    Raises:
        ConfigError: fewer than two classes.
    """
    if class_count < 2:
        raise ConfigError(f"classes must be at least 2; received {class_count}")
    count = {"mobilenet_v2": _mobilenet_v2, "cnn": _cnn, "mlp": _mlp}[config.arch]
    operators, features = count(config)
    for units in (*config.hidden_units, class_count):
        operators.append(dense(features, units))
        features = units
    width = f" {config.alpha:g}" if config.arch == "mobilenet_v2" else ""
    width += f" of {config.blocks} blocks" if config.blocks else ""
    name = f"{config.arch}{width}, {config.image_size}x{config.image_size}"
    return Network(name, config.arch, tuple(operators))


def inverted_residuals(
    side: int, channels: int, alpha: float, blocks: int | None = None
) -> tuple[list[Operator], int, int]:
    """Return MobileNetV2's operators after the stem, and the side and channels of their output.

    They are those that `TrainConfig.blocks` keeps.
    """
    operators = []
    stages = [stage for stage in STAGES for _ in range(stage[2])]
    for number, (expansion, filters, _, stride) in enumerate(stages[:blocks]):
        repeated = number > 0 and stages[number - 1] == stages[number]
        outputs, wide, pixels = round_channels(filters * alpha), channels * expansion, side * side
        if expansion > 1:
            operators.append(convolution(pixels, pixels, 1, channels, wide))
        side = -(-side // (1 if repeated else stride))
        operators.append(convolution(side * side, pixels, 9, wide, wide, group=wide))
        if number + 1 == blocks:
            return operators, side, wide
        operators.append(convolution(side * side, side * side, 1, wide, outputs))
        if repeated:
            operators.append(other(3 * side * side * outputs))
        channels = outputs
    last = round_channels(LAST_FILTERS * alpha) if alpha > 1 else LAST_FILTERS
    operators.append(convolution(side * side, side * side, 1, channels, last))
    return operators, side, last


def round_channels(channels: float) -> int:
    """Return the multiple of 8 that keras.applications takes for so many channels: never 10 % fewer."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _mobilenet_v2(config: TrainConfig) -> tuple[list[Operator], int]:
    size, stem = config.image_size, round_channels(32 * config.alpha)
    side = -(-size // 2)
    if config.gray_to_rgb == "random":
        # It cannot be fused with the stem: see export/fuse.py.
        front = [convolution(size**2, size**2, 9, 1, 3), convolution(side**2, size**2, 9, 3, stem)]
    elif size % 2 == 0:
        # 2x2 on blocks of 2x2 pixels, as in int8 files; float files have 3x3 pixels instead, which is no slower.
        front = [convolution(side**2, side**2, 4, 4, stem)]
    else:
        front = [convolution(side**2, size**2, 9, 1, stem)]
    blocks, side, channels = inverted_residuals(side, stem, config.alpha, config.blocks)
    if config.head == "flatten":
        return front + blocks, side**2 * channels
    return [*front, *blocks, other((side**2 + 1) * channels)], channels


def _cnn(config: TrainConfig) -> tuple[list[Operator], int]:
    side, channels, operators = config.image_size, 1, []
    for filters in config.filters:
        after = side - config.kernel + 1
        operators.append(convolution(after**2, side**2, config.kernel**2, channels, filters))
        side, channels = after // 2, filters
        operators.append(other((after**2 + side**2) * filters))
    return operators, side**2 * channels


def _mlp(config: TrainConfig) -> tuple[list[Operator], int]:
    return [], config.image_size**2
