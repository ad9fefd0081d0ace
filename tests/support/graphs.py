"""Small graphs made by hand, for rules that ask for what no converter of ours writes."""

from __future__ import annotations

import struct
from typing import Any

from edgecls.model_file.graph import Graph, Node, Tensor

IMAGE = Tensor("image", (1, 8, 8, 4), "uint8", is_constant=False, scales=1)


def value(name: str, shape: tuple[int, ...] = (1, 8, 8, 4), dtype: str = "int8") -> Tensor:
    return Tensor(name, shape, dtype, is_constant=False, scales=1)


def weights(shape: tuple[int, ...], scales: int = 1, dtype: str = "int8") -> Tensor:
    return Tensor(f"weights {shape}", shape, dtype, is_constant=True, scales=scales)


def whole(*numbers: int) -> Tensor:
    data = struct.pack(f"<{len(numbers)}i", *numbers)
    return Tensor("numbers", (len(numbers),), "int32", is_constant=True, data=data)


def node(op: str, version: int, *inputs: Tensor, output: Tensor | None = None, **options: int) -> Node:
    name = op.lower()
    return Node(op, version, f"net/{name}", inputs, (output or value(name),), options)


QUANTIZE = node("QUANTIZE", 1, IMAGE)
CONV = node("CONV_2D", 3, value("quantize"), weights((4, 3, 3, 4), 4), dilation_w=1, dilation_h=1)
MEAN = node("MEAN", 2, value("conv_2d"), whole(1, 2), output=value("mean", (1, 4)))
SOFTMAX = node("SOFTMAX", 2, value("mean", (1, 4)), output=value("softmax", (1, 4)))


def tflite(*nodes: Node, **changes: Any) -> Graph:
    """Return a graph of operations that the Edge TPU takes, with `nodes` before its convolution."""
    values: dict[str, Any] = {
        "format": "tflite",
        "nodes": (QUANTIZE, *nodes, CONV, MEAN, SOFTMAX),
        "inputs": (IMAGE,),
        "outputs": (SOFTMAX.outputs[0],),
        "min_runtime": "1.14.0",
    }
    return Graph(**{**values, **changes})


def onnx(*nodes: Node, **changes: Any) -> Graph:
    values: dict[str, Any] = {
        "format": "onnx",
        "nodes": (*nodes, Node("Relu", 0, "net/relu", (value("x", dtype="float32"),), (value("y", dtype="float32"),))),
        "inputs": (IMAGE,),
        "outputs": (value("y", (1, 3), "float32"),),
        "opset": 17,
        "ir": 8,
    }
    return Graph(**{**values, **changes})
