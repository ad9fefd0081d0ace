"""Write devices/tables/networks.toml: the networks whose latencies others have published, from their papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgecls.config import TrainConfig
from edgecls.estimate.operators import Operator, convolution, count_network, dense, inverted_residuals, other
from edgecls.files import write_atomically

TABLE = Path(__file__).parents[1] / "devices/tables/networks.toml"
HEADER = """\
# The operators of each network whose latencies others have published: kind, multiply-adds of one image, weights, and
# values that it reads and writes. Written by benchmarks/published_networks.py, which counts them from the papers.
"""


def _mobilenet_v1() -> list[Operator]:
    # Howard et al. 2017, arXiv:1704.04861, table 1: outputs and stride of each separable convolution.
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    side, channels = 112, 32
    operators = [convolution(side**2, 224**2, 9, 3, channels)]
    for outputs, stride in layers:
        before, side = side, side // stride
        operators.append(convolution(side**2, before**2, 9, channels, channels, group=channels))
        operators.append(convolution(side**2, side**2, 1, channels, outputs))
        channels = outputs
    return [*operators, other((side**2 + 1) * channels), dense(channels, 1000)]


def _mobilenet_v2() -> list[Operator]:
    blocks, side, channels = inverted_residuals(112, 32, 1.0)
    stem = convolution(112**2, 224**2, 9, 3, 32)
    return [stem, *blocks, other((side**2 + 1) * channels), dense(channels, 1000)]


def _squeezenet() -> list[Operator]:
    # Iandola et al. 2016, arXiv:1602.07360, version 1.1 of its repository: squeeze and expand of each fire module, and
    # the side of its feature map.
    fires = [(16, 64, 56), (16, 64, 56), (32, 128, 28), (32, 128, 28), (48, 192, 14), (48, 192, 14)]
    fires += [(64, 256, 14), (64, 256, 14)]
    side, channels = 113, 64
    operators = [convolution(side**2, 227**2, 9, 3, channels)]
    for squeeze, expand, after in fires:
        if after < side:
            operators.append(other((side**2 + after**2) * channels))
            side = after
        pixels = side**2
        operators.append(convolution(pixels, pixels, 1, channels, squeeze))
        operators += [convolution(pixels, pixels, kernel, squeeze, expand) for kernel in (1, 9)]
        channels = 2 * expand
        operators.append(other(2 * pixels * channels))
    return [*operators, convolution(side**2, side**2, 1, channels, 1000), other((side**2 + 1) * 1000)]


def _resnet18() -> list[Operator]:
    # He et al. 2016, arXiv:1512.03385, table 1.
    operators = [convolution(112**2, 224**2, 49, 3, 64), other((112**2 + 56**2) * 64)]
    side, channels = 56, 64
    for outputs in (64, 128, 256, 512):
        for _ in range(2):
            before, inputs = side, channels
            if outputs != inputs:
                side = side // 2
                operators.append(convolution(side**2, before**2, 1, inputs, outputs))
            operators.append(convolution(side**2, before**2, 9, inputs, outputs))
            operators.append(convolution(side**2, side**2, 9, outputs, outputs))
            operators.append(other(3 * side**2 * outputs))
            channels = outputs
    return [*operators, other((side**2 + 1) * channels), dense(channels, 1000)]


def _alexnet() -> list[Operator]:
    # Krizhevsky et al. 2012, with the two groups of its second, fourth and fifth convolution.
    shapes = [(55, 227, 121, 3, 96, 1), (27, 27, 25, 96, 256, 2), (13, 13, 9, 256, 384, 1), (13, 13, 9, 384, 384, 2)]
    shapes.append((13, 13, 9, 384, 256, 2))
    operators = [convolution(out**2, side**2, *rest) for out, side, *rest in shapes]
    operators += [other((55**2 + 27**2) * 96), other((27**2 + 13**2) * 256), other((13**2 + 6**2) * 256)]
    return [*operators, dense(9216, 4096), dense(4096, 4096), dense(4096, 1000)]


def _googlenet() -> list[Operator]:
    # Szegedy et al. 2015, arXiv:1409.4842, table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
    modules = {
        28: [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
        14: [(192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)]
        + [(112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)],
        7: [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
    }
    operators = [convolution(112**2, 224**2, 49, 3, 64), other((112**2 + 56**2) * 64)]
    operators += [convolution(56**2, 56**2, 1, 64, 64), convolution(56**2, 56**2, 9, 64, 192)]
    channels, before = 192, 56
    for side, rows in modules.items():
        operators.append(other((before**2 + side**2) * channels))
        before, pixels = side, side**2
        for one, reduce3, three, reduce5, five, pool in rows:
            operators += [convolution(pixels, pixels, 1, channels, n) for n in (one, reduce3, reduce5, pool)]
            operators.append(convolution(pixels, pixels, 9, reduce3, three))
            operators.append(convolution(pixels, pixels, 25, reduce5, five))
            operators.append(other(2 * pixels * channels))
            channels = one + three + five + pool
            operators.append(other(2 * pixels * channels))
    return [*operators, other((7**2 + 1) * channels), dense(channels, 1000)]


def _own() -> list[Operator]:
    return list(count_network(TrainConfig(), 6).operators)


BUILDERS: dict[str, tuple[str, Callable[[], list[Operator]]]] = {
    "MobileNetV1 1.0, 224x224": ("mobilenet_v1", _mobilenet_v1),
    "MobileNetV2 1.0, 224x224": ("mobilenet_v2", _mobilenet_v2),
    "SqueezeNet 1.1, 227x227": ("squeezenet", _squeezenet),
    "ResNet18, 224x224": ("resnet18", _resnet18),
    "AlexNet, 227x227": ("alexnet", _alexnet),
    "GoogLeNet, 224x224": ("googlenet", _googlenet),
    "edgecls mobilenet_v2 1.0, 224x224": ("mobilenet_v2", _own),
}


def format_table() -> str:
    """Return the text of the table."""
    parts = [HEADER]
    for model, (arch, build) in BUILDERS.items():
        rows = [f'  ["{each.kind}", {each.multiply_adds}, {each.weights}, {each.values}],\n' for each in build()]
        parts.append(f'\n["{model}"]\narch = "{arch}"\noperators = [\n{"".join(rows)}]\n')
    return "".join(parts)


if __name__ == "__main__":
    write_atomically(TABLE, format_table().encode())
