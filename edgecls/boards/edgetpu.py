"""Rules of the Edge TPU, checked before its compiler runs. The lists are in devices/tables/edgetpu.toml."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from edgecls.boards.profiles import read_table
from edgecls.boards.rule_result import RuleResult
from edgecls.model_file.graph import Graph, Node

# The operation with which edgetpu_compiler replaces those that it maps.
COMPILED = "edgetpu-custom-op"
# Most time is spent in these: with one of them on the CPU, the Edge TPU gains little.
HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
DTYPES = ("int8", "uint8", "int32")
AGAIN = "run: edgecls export RUN --int8 --board coral-usb"


def preflight(graph: Graph, remedy: str = AGAIN) -> tuple[RuleResult, ...]:
    """Return the findings of Coral's published rules about a graph; only the compiler knows for certain.

    `remedy` is what to do about a graph that would run on the CPU.
    """
    if graph.format != "tflite":
        return (RuleResult("format", "no", "the Edge TPU runs TFLite only; export with --format tflite --int8"),)
    if any(node.op == COMPILED for node in graph.nodes):
        return (_check_compiled(graph),)
    return (_check_mapping(graph, remedy), *_check_versions(graph), _check_sram(graph))


def cpu_layers(compiled: Graph) -> tuple[Node, ...]:
    """Return the operations of a compiled file that run on the board's CPU."""
    return tuple(node for node in compiled.nodes if node.op != COMPILED)


def _check_compiled(graph: Graph) -> RuleResult:
    left = cpu_layers(graph)
    if not left:
        return RuleResult("ops", "ok", "compiled: every operation runs on the Edge TPU")
    names = ", ".join(f"{node.layer} ({node.op})" for node in left[:5])
    heavy = any(node.op in HEAVY for node in left)
    return RuleResult("ops", "no" if heavy else "note", f"compiled, but {len(left)} operations run on the CPU: {names}")


def _check_mapping(graph: Graph, remedy: str) -> RuleResult:
    table = read_table("edgetpu")
    for i, node in enumerate(graph.nodes):
        for rule, check in RULES:
            if reason := check(node, table):
                left = graph.nodes[i:]
                heavy = any(other.op in HEAVY for other in left)
                text = f"{node.layer} ({node.op}) runs on the CPU: {reason}; so do the {len(left) - 1} after it"
                return RuleResult(rule, "no" if heavy else "note", f"{text}; {remedy}" if heavy else text)
    return RuleResult("ops", "ok", f"edgetpu_compiler {table['compiler']} maps all {len(graph.nodes)} operations")


def _check_versions(graph: Graph) -> Iterator[RuleResult]:
    mapped = read_table("edgetpu")["mapped"]
    unseen = {f"{node.op} {node.version}" for node in graph.nodes if node.version > mapped.get(node.op, 0)}
    if unseen:
        text = f"not known to be mapped in these versions: {', '.join(sorted(unseen))}; read the compiler's report"
        yield RuleResult("op versions", "note", text)


def _check_sram(graph: Graph) -> RuleResult:
    size = sum(tensor.size_bytes for tensor in graph.tensors if tensor.is_constant) / 2**20
    has = read_table("edgetpu")["sram_mb"]
    if size > has:
        text = f"{size:.1f} MB of weights, of which {has} MB fit on the chip; the rest is sent for every image"
        return RuleResult("on-chip memory", "note", f"{text}; train with a smaller --alpha")
    return RuleResult("on-chip memory", "ok", f"{size:.1f} MB of weights, {has} MB on the chip")


def _bad_op(node: Node, table: dict[str, Any]) -> str:
    return "" if node.op in table["ops"] else "the Edge TPU does not have this operation"


def _bad_version(node: Node, table: dict[str, Any]) -> str:
    refused = table["refused"].get(node.op)
    if not refused or node.version < refused["version"]:
        return ""
    return f"version {node.version}; the compiler refuses {refused['version']} and later"


def _bad_dtype(node: Node, _: dict[str, Any]) -> str:
    found = [tensor for tensor in (*node.inputs, *node.outputs) if tensor.dtype not in DTYPES]
    return f"{found[0].name} is {found[0].dtype}, not 8-bit" if found else ""


def _bad_shape(node: Node, _: dict[str, Any]) -> str:
    for tensor in (*node.inputs, *node.outputs):
        if -1 in tensor.shape:
            return f"{tensor.name} has the unknown shape {tensor.shape}"
        if not tensor.is_constant and any(side > 1 for side in tensor.shape[:-3]):
            return f"{tensor.name} is {tensor.shape}; only the last three dimensions may be above 1"
    return ""


def _bad_dense(node: Node, _: dict[str, Any]) -> str:
    # Old kernels use the first scale for all channels: https://github.com/tensorflow/tflite-micro/pull/2602
    if node.op == "FULLY_CONNECTED" and len(node.inputs) > 1 and node.inputs[1].scales > 1:
        return "its weights have a scale per channel, which the compiler is not known to accept"
    return ""


def _bad_limit(node: Node, table: dict[str, Any]) -> str:
    check = LIMITS.get(node.op)
    return check(node, table) if check else ""


def _fused_activation(node: Node, _: dict[str, Any]) -> str:
    return "it has a fused activation" if node.options["activation"] else ""


def _dilation(node: Node, _: dict[str, Any]) -> str:
    same = node.options["dilation_w"] == node.options["dilation_h"]
    return "" if same else "its dilation differs between x and y"


def _dense_format(node: Node, _: dict[str, Any]) -> str:
    if node.options["keep_num_dims"]:
        return "it keeps dimensions (keep_num_dims)"
    return "its weights are not in the default format" if node.options["weights_format"] else ""


def _mean_axes(node: Node, _: dict[str, Any]) -> str:
    shape, rank = node.inputs[0].shape, len(node.inputs[0].shape)
    axes = {axis % rank for axis in _int32(node.inputs[1].data)}
    if 0 in axes:
        return "it reduces the batch"
    return "it reduces channels, whose number is not a multiple of 4" if rank - 1 in axes and shape[-1] % 4 else ""


def _pad_batch(node: Node, _: dict[str, Any]) -> str:
    return "it pads the batch" if any(_int32(node.inputs[1].data)[:2]) else ""


def _softmax_size(node: Node, table: dict[str, Any]) -> str:
    size = node.inputs[0].shape[-1]
    return f"{size} values, at most {table['max_softmax']} fit" if size > table["max_softmax"] else ""


def _int32(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4])


_Rule = Callable[[Node, dict[str, Any]], str]
RULES: tuple[tuple[str, _Rule], ...] = (
    ("ops", _bad_op),
    ("op versions", _bad_version),
    ("dtypes", _bad_dtype),
    ("shapes", _bad_shape),
    ("per-channel dense", _bad_dense),
    ("limits", _bad_limit),
)
LIMITS: dict[str, _Rule] = {
    "AVERAGE_POOL_2D": _fused_activation,
    "MAX_POOL_2D": _fused_activation,
    "CONCATENATION": _fused_activation,
    "CONV_2D": _dilation,
    "DEPTHWISE_CONV_2D": _dilation,
    "FULLY_CONNECTED": _dense_format,
    "MEAN": _mean_axes,
    "PAD": _pad_batch,
    "SOFTMAX": _softmax_size,
}
