"""The layers of the Keras model that an operator computes, found by the names that the exporters gave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecls.model_file.graph import Graph, Node
from edgecls.profiling.timed import Timed

# Operators of both formats with weights of their own.
WEIGHTED = ("Conv", "Gemm", "MatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
PADS = ("PAD", "Pad")


def find_layers(graph: Graph, operators: Sequence[Timed]) -> list[tuple[str, ...]]:
    """Return the Keras layers of each operator, in the order of the network.

    A layer without an operator of its name was fused into the one before it, like an activation, or if it pads, into
    the one after it.
    """
    known = _layers_by_name(graph)
    order = list(dict.fromkeys(layer for layers in known.values() for layer in layers))
    found: list[set[str]] = []
    for operator in operators:
        names = (operator.name, *operator.origins)
        found.append({layer for name in names for layer in known.get(name, _layers_in(name)) if layer in order})
    claimed = {layer: place for place in reversed(range(len(found))) for layer in found[place]}
    padding, weighted = (
        {layer for node in graph.nodes if node.op in ops for layer in known[node.layer]} for ops in (PADS, WEIGHTED)
    )
    unpadded = [layer for layer in order if layer not in padding]
    # A layer with weights is never fused into another: if it is not found, neither is what follows it.
    for layers, fused in ((unpadded, {*unpadded} - weighted), (order[::-1], padding)):
        place = None
        for layer in layers:
            place = claimed.get(layer, place if layer in fused else None)
            if place is not None:
                found[place].add(layer)
                claimed[layer] = place
    return [tuple(sorted(layers, key=order.index)) for layers in found]


def _layers_by_name(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return the layers of every operator of the file, under its own name and those of its outputs."""
    known: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        layers = tuple(dict.fromkeys(layer for name in _names(node) for layer in _layers_in(name)))
        known |= dict.fromkeys((node.layer, *(tensor.name for tensor in node.outputs)), layers)
    return known


def _names(node: Node) -> Iterator[str]:
    yield from (tensor.name for tensor in node.outputs)
    yield node.layer
    # tf2onnx numbers depthwise convolutions, so that only their bias has the layer's name.
    if node.op in WEIGHTED:
        yield from (tensor.name for tensor in node.inputs[1:])


def _layers_in(name: str) -> tuple[str, ...]:
    """Return the layers in a name: MODEL/LAYER_1/OPERATION, or several such separated by ";".

    Names of weights are ignored: equal constants are merged under the name of any one of them.
    """
    paths = [path.split("/") for path in name.split(";") if "ReadVariableOp" not in path]
    layers = [(path[-1], path[-2].removesuffix("_1")) for path in paths if len(path) >= 3]
    # TFLite's converter lists fused operators in any order; an activation runs last.
    return tuple(layer for _, layer in sorted(layers, key=lambda entry: entry[0].startswith("Relu")))
