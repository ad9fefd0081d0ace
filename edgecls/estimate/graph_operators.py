"""The operators of an exported file, as `operators` counts them from settings."""

from __future__ import annotations

import math
import os
from pathlib import Path

from edgecls.errors import ModelFileError
from edgecls.estimate.operators import Network, Operator, convolution, dense, other
from edgecls.model_file.graph import Graph, Node, Tensor
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import read_graph, read_model_file

# Height, width and channels of a feature map.
_Size = tuple[int, int, int]


def read_network(path: str | os.PathLike[str]) -> tuple[Network, ModelSpec]:
    """Return the operators of an exported file, and its metadata.

    Raises:
        ModelFileError: no such file, no metadata in it, damaged, or without layers that can be counted.
    """
    kind, content, spec = read_model_file(path)
    graph = read_graph(content, kind)
    operators = _tflite(graph) if graph.format == "tflite" else _onnx(graph)
    if not any(operator.multiply_adds for operator in operators):
        raise ModelFileError(
            f"{os.fspath(path)!r} has no operator with weights to count. Estimate the file from which it was compiled."
        )
    return Network(Path(path).name, spec.arch, operators), spec


def _tflite(graph: Graph) -> tuple[Operator, ...]:
    return tuple(operator for node in graph.nodes if (operator := _tflite_operator(node)))


def _tflite_operator(node: Node) -> Operator | None:
    if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        outputs, height, width, inputs = node.inputs[1].shape
        pixels, pixels_in = _pixels(node.outputs[0]), _pixels(node.inputs[0])
        if node.op == "DEPTHWISE_CONV_2D":
            return convolution(pixels, pixels_in, height * width, inputs, inputs, group=inputs)
        return convolution(pixels, pixels_in, height * width, inputs, outputs)
    if node.op == "FULLY_CONNECTED":
        outputs, inputs = node.inputs[1].shape
        return dense(inputs, outputs)
    if node.op in ("ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN") and len(node.inputs[0].shape) == 4:
        maps = [tensor for tensor in node.inputs if not tensor.is_constant]
        return other(sum(_values(tensor.shape) for tensor in (*maps, *node.outputs)))
    return None


def _pixels(tensor: Tensor) -> int:
    return tensor.shape[1] * tensor.shape[2]


def _values(shape: tuple[int, ...]) -> int:
    return math.prod(max(side, 1) for side in shape)


def _onnx(graph: Graph) -> tuple[Operator, ...]:
    """Return the operators of an ONNX file, in which only the input and the weights have shapes."""
    _, height, width, channels = graph.inputs[0].shape
    sizes: dict[str, _Size] = {graph.inputs[0].name: (height, width, channels)}
    weights: dict[str, tuple[int, ...]] = {}
    operators: list[Operator] = []
    for node in graph.nodes:
        if not node.inputs or not node.outputs:
            continue
        first, name = node.inputs[0], node.outputs[0].name
        if first.name not in sizes:
            # Operators that dequantize or widen weights; the others do not matter.
            weights[name] = first.shape or weights.get(first.name, ())
            continue
        kernel = [shape for tensor in node.inputs[1:] if (shape := tensor.shape or weights.get(tensor.name, ()))]
        sizes[name], operator = _onnx_operator(node, sizes[first.name], kernel[0] if kernel else (), sizes)
        operators += [operator] if operator else []
    return tuple(operators)


def _onnx_operator(
    node: Node, size: _Size, kernel: tuple[int, ...], sizes: dict[str, _Size]
) -> tuple[_Size, Operator | None]:
    """Return the size of a node's output, and the operator to count for it."""
    height, width, channels = size
    if node.op == "Conv":
        outputs, _, kernel_h, kernel_w = kernel
        after = (_after(height, kernel_h, node, "h"), _after(width, kernel_w, node, "w"), outputs)
        area, group = kernel_h * kernel_w, node.options.get("group", 1)
        return after, convolution(after[0] * after[1], height * width, area, channels, outputs, group)
    if node.op in ("MaxPool", "AveragePool"):
        sides = [
            _after(side, node.options[f"kernel_{axis}"], node, axis) for side, axis in ((height, "h"), (width, "w"))
        ]
        return (sides[0], sides[1], channels), other((height * width + sides[0] * sides[1]) * channels)
    if node.op in ("GlobalAveragePool", "ReduceMean"):
        return (1, 1, channels), other((height * width + 1) * channels)
    if node.op in ("Gemm", "MatMul") and len(kernel) == 2:
        features = height * width * channels
        outputs = _values(kernel) // features
        return (1, 1, outputs), dense(features, outputs)
    if node.op == "Add" and all(tensor.name in sizes for tensor in node.inputs):
        return size, other(3 * height * width * channels)
    if node.op == "SpaceToDepth":
        block = node.options["blocksize"]
        return (height // block, width // block, channels * block**2), None
    return size, None


def _after(side: int, kernel: int, node: Node, axis: str) -> int:
    """Return the side of the output of a convolution or a pooling."""
    stride = node.options.get(f"stride_{axis}", 1)
    if node.options.get("same"):
        return -(-side // stride)
    before, behind = ("top", "bottom") if axis == "h" else ("left", "right")
    padded = side + node.options.get(f"pad_{before}", 0) + node.options.get(f"pad_{behind}", 0)
    return (padded - kernel) // stride + 1
