"""Rules of Arm's Ethos-U NPUs, checked before Vela compiles. The lists are in devices/tables/ethosu.toml."""

from __future__ import annotations

from typing import Any

from edgecls.boards.edgetpu import HEAVY
from edgecls.boards.profiles import read_table
from edgecls.boards.rule_result import RuleResult
from edgecls.model_file.graph import Graph, Node

# The operation with which Vela replaces those that the NPU runs.
COMPILED = "ethos-u"
AGAIN = "run: edgecls export RUN --int8 --board ethos-u"
NAMED = 6


def preflight(graph: Graph, remedy: str = AGAIN) -> tuple[RuleResult, ...]:
    """Return the findings of Vela's rules about a graph; only Vela knows for certain.

    `remedy` is what to do about a graph that would run on the CPU.
    """
    if graph.format != "tflite":
        return (RuleResult("format", "no", f"Vela takes TFLite only; {AGAIN}"),)
    if any(node.op == COMPILED for node in graph.nodes):
        left = cpu_nodes(graph)
        fine = "compiled: every operation runs on the NPU"
        return (_judge(left, len(graph.nodes), [""] * len(left), fine, remedy),)
    reasons = [(node, reason) for node in graph.nodes if (reason := reason_for_cpu(node))]
    nodes, texts = [node for node, _ in reasons], [reason for _, reason in reasons]
    fine = f"Vela {read_table('ethosu')['compiler']} is expected to put all {len(graph.nodes)} operations on the NPU"
    return (_judge(nodes, len(graph.nodes), texts, fine, remedy),)


def cpu_nodes(compiled: Graph) -> list[Node]:
    """Return the operations of a compiled file that run on the board's CPU."""
    return [node for node in compiled.nodes if node.op != COMPILED]


def reason_for_cpu(node: Node) -> str:
    """Return why Vela leaves an operation to the CPU, or ""."""
    table = read_table("ethosu")
    if node.op not in table["ops"]:
        return "Vela does not have this operation"
    return next((reason for rule in (_bad_dtype, _bad_scales, _bad_shape) if (reason := rule(node, table))), "")


def _judge(nodes: list[Node], total: int, reasons: list[str], fine: str, remedy: str) -> RuleResult:
    if not nodes:
        return RuleResult("ops", "ok", fine)
    named = [
        f"{node.layer} ({node.op}{': ' + reason if reason else ''})"
        for node, reason in zip(nodes[:NAMED], reasons, strict=False)
    ]
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    text = f"{len(nodes)} of {total} operations run on the CPU: {', '.join(named)}{more}"
    heavy = any(node.op in HEAVY for node in nodes)
    return RuleResult("ops", "no" if heavy else "note", f"{text}; {remedy}")


def _bad_dtype(node: Node, table: dict[str, Any]) -> str:
    activations = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.is_constant]
    found = [tensor for tensor in activations if tensor.dtype not in table["dtypes"]]
    return f"{found[0].dtype}, not an 8- or 16-bit integer" if found else ""


def _bad_scales(node: Node, table: dict[str, Any]) -> str:
    if any(tensor.scales > 1 for tensor in node.inputs) and node.op not in table["per_channel"]:
        return "its weights have a scale per channel"
    lacking = [tensor for tensor in (*node.inputs[:1], *node.outputs) if not tensor.scales]
    return f"{lacking[0].name} has no quantization" if lacking and node.op not in table["unquantized"] else ""


def _bad_shape(node: Node, _: dict[str, Any]) -> str:
    for tensor in (*node.inputs, *node.outputs):
        if -1 in tensor.shape:
            return f"{tensor.name} has the unknown shape {tensor.shape}"
        if not tensor.is_constant and len(tensor.shape) > 4:
            return f"{tensor.name} has more than four dimensions"
    return ""
