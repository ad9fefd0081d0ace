"""What both formats are read into, for the rules. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecls.limits import Format

# Bytes of one value; what is not here takes less than a byte, or has no fixed size.
DTYPE_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
# What is said of graphs that are not run.
ENDLESS = "has a loop, a condition or a function, which may never end; no file of edgecls has: do not use it"
IN_ANOTHER_FILE = "keeps values in another file, which no checksum covers; no file of edgecls does: do not use it"
# Of the converter's rounding.
SCALE_TOLERANCE = 1e-5
# Of float scores, and of uint8 and int8 ones, which TFLite fixes for a softmax.
SCORE_QUANTIZATIONS = ((0.0, 0), (1 / 256, 0), (1 / 256, -128))


@dataclass(frozen=True)
class Tensor:
    """A value in a graph.

    Attributes:
        name: as in the file.
        shape: -1 for a dimension that is open until the graph runs.
        dtype: as NumPy writes it.
        is_constant: True for weights.
        scales: quantization scales: 0 if not quantized, 1 for one of the whole tensor, else one a channel.
        data: a constant's bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_constant: bool
    scales: int = 0
    data: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Bytes that the values take, open dimensions counted as 1."""
        size = DTYPE_BYTES.get(self.dtype, 1)
        for side in self.shape:
            size *= max(side, 1)
        return size


@dataclass(frozen=True)
class Node:
    """An operation.

    Attributes:
        op: its name as the format's own tools write it: "CONV_2D", "Conv".
        version: of a TFLite operation; 0 in ONNX, where the operator set has one.
        layer: a name that the network's author knows it by.
        inputs: values it reads; those left out are not here.
        outputs: values it writes.
        options: the few that are asked for: `OPTIONS` of the format's reader.
        domain: of an ONNX operator.
    """

    op: str
    version: int
    layer: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, int] = field(default_factory=dict)
    domain: str = ""


@dataclass(frozen=True)
class Graph:
    """A network, its operations in the order they run.

    Attributes:
        kind: of file.
        nodes: the operations.
        inputs: of the network.
        outputs: of the network.
        min_runtime: oldest TensorFlow Lite that runs the file, by its own word; "" if it does not say.
        opset: of ONNX's own operators; 0 in TFLite.
        ir: version of the ONNX file format; 0 in TFLite.
    """

    kind: Format
    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    min_runtime: str = ""
    opset: int = 0
    ir: int = 0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every value that the file describes and some operation uses, once."""
        used = (tensor for node in self.nodes for tensor in (*node.inputs, *node.outputs))
        return tuple({(tensor.name, tensor.shape): tensor for tensor in (*self.inputs, *used, *self.outputs)}.values())
