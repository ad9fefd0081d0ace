"""A graph as both formats are read: its operations and tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecls.limits import Format

# Bytes of one value. Types that are not here take less than a byte, or have no fixed size.
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
AGAIN = "copy the file again or re-export"
MAX_METADATA_BYTES = 8 * 2**20
# Why a graph is not run.
ENDLESS = "has a loop, a condition or a function, which may never end; edgecls never writes those: do not use this file"
IN_ANOTHER_FILE = "keeps values in another file, without a checksum; edgecls never does: do not use this file"
# Relative; converters round scales.
SCALE_TOLERANCE = 1e-5
# (scale, zero point) of float scores, and of the uint8 and int8 scores of a softmax, which TFLite fixes.
SCORE_QUANTIZATIONS = ((0.0, 0), (1 / 256, 0), (1 / 256, -128))


@dataclass(frozen=True)
class Tensor:
    """A value in a graph."""

    name: str  # as in the file
    shape: tuple[int, ...]  # -1 for a dimension that is unknown until the graph runs
    dtype: str  # as NumPy writes it
    is_constant: bool  # True for weights
    scales: int = 0  # number of quantization scales: 0 if not quantized, 1 per tensor, more if per channel
    data: bytes = b""  # a constant's bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of the values; unknown dimensions count as 1."""
        size = DTYPE_BYTES.get(self.dtype, 1)
        for side in self.shape:
            size *= max(side, 1)
        return size


@dataclass(frozen=True)
class Node:
    """An operation."""

    op: str  # its name as the format's own tools write it: "CONV_2D", "Conv"
    version: int  # of a TFLite operation; 0 in ONNX, where the operator set has one
    layer: str  # name of the layer it comes from
    inputs: tuple[Tensor, ...]  # values it reads, without optional ones that are left out
    outputs: tuple[Tensor, ...]  # values it writes
    options: dict[str, int] = field(default_factory=dict)  # those in `OPTIONS` of the format's reader
    domain: str = ""  # of an ONNX operator


@dataclass(frozen=True)
class Graph:
    """A network; its operations are in the order they run."""

    format: Format  # of the file
    nodes: tuple[Node, ...]  # the operations
    inputs: tuple[Tensor, ...]  # of the network
    outputs: tuple[Tensor, ...]  # of the network
    min_runtime: str = ""  # oldest TensorFlow Lite that runs the file, as stated in it; "" if it is not
    opset: int = 0  # version of ONNX's own operators; 0 in TFLite
    ir: int = 0  # version of the ONNX file format; 0 in TFLite

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every value that is used, once."""
        used = (tensor for node in self.nodes for tensor in (*node.inputs, *node.outputs))
        return tuple({(tensor.name, tensor.shape): tensor for tensor in (*self.inputs, *used, *self.outputs)}.values())
