"""Corrections of what tf2onnx writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

# The end of a name that tf2onnx made of a counter, which goes on while the process lives.
NUMBERED = re.compile(r"__\d+(:\d+)?$")
# What follows a layer's name in that of its bias.
BIAS_ENDING = re.compile(r"(/BiasAdd)?/[^/]+$")


def add_features(graph: onnx.GraphProto) -> None:
    """Add features to the output of a convolution where tf2onnx made them a bias, as it does at a single position."""
    from onnx import helper, numpy_helper

    constants = {tensor.name for tensor in graph.initializer}
    shape = numpy_helper.from_array(np.array([1, -1, 1, 1], np.int64), "one_position")
    for node in [each for each in graph.node if each.op_type == "Conv"]:
        bias = [name for name in node.input[2:] if name in constants][:1]
        given = [name for name in node.input[2:] if name not in bias]
        if not given:
            continue
        node.input[:] = [*node.input[:2], *bias]
        result, node.output[0] = node.output[0], f"{node.output[0]}_without"
        value, added = node.output[0], []
        for number, name in enumerate(given):
            features, total = f"{result}_features_{number}", f"{result}_sum_{number}"
            added.append(helper.make_node("Reshape", [name, shape.name], [features]))
            added.append(helper.make_node("Add", [value, features], [total]))
            value = total
        added[-1].output[0] = result
        place = list(graph.node).index(node) + 1
        for number, new in enumerate(added):
            graph.node.insert(place + number, new)
    graph.initializer.append(shape)


def write_erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Write TensorFlow's Erfc, which GELU has, as 1 - Erf: ONNX has no Erfc. A handler as tf2onnx calls it."""
    readers = graph.find_output_consumers(node.output[0])
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    node.type = "Erf"
    types = [graph.get_dtype(node.output[0])], [graph.get_shape(node.output[0])]
    result = graph.make_node("Sub", [one.output[0], node.output[0]], dtypes=types[0], shapes=types[1])
    graph.replace_all_inputs(node.output[0], result.output[0], ops=readers)


def merge_pads(graph: onnx.GraphProto) -> None:
    """Move each Pad into the padding attribute of the convolution that follows it."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        pad = producers.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad" or pad.input[1] not in constants or readers[pad.output[0]] > 1:
            continue
        amounts = numpy_helper.to_array(constants[pad.input[1]]).reshape(2, 4)[:, 2:].reshape(-1)
        kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "auto_pad")]
        own = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "pads"), [0, 0, 0, 0])
        del node.attribute[:]
        node.attribute.extend(
            [*kept, helper.make_attribute("pads", [int(a) + o for a, o in zip(amounts, own, strict=True)])]
        )
        node.input[0] = pad.input[0]
        graph.node.remove(pad)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the constants that no node reads."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]


def name_by_place(graph: onnx.GraphProto) -> None:
    """Name and order the constants that nodes read, and name what tf2onnx numbers, by the place in the graph.

    tf2onnx's own names and order change from run to run. With these, a network gives the same file each time.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    results = {output.name for output in graph.output}
    _name_nodes(graph, constants)
    names: dict[str, str] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}_constant_{place}")
            node.input[place] = names.get(name, name)
        for place, name in enumerate(node.output):
            if NUMBERED.search(name) and name not in results:
                names[name] = node.output[place] = f"{node.name}:{place}"
    ordered = [constants[name] for name in names if name in constants]
    del graph.initializer[:]
    for tensor in ordered:
        tensor.name = names[tensor.name]
    graph.initializer.extend(ordered)
    # It holds the names of before.
    del graph.value_info[:]
    # It names the traced function, by a counter too.
    graph.doc_string = ""


def _name_nodes(graph: onnx.GraphProto, constants: Container[str]) -> None:
    """Name nodes that have a number for a name, as depthwise convolutions have, after the layer of their bias."""
    readers = Counter(name for node in graph.node for name in node.input)
    taken = {node.name for node in graph.node}
    for number, node in enumerate(graph.node):
        if not NUMBERED.search(node.name):
            continue
        # Equal constants were merged under the name of any one of them.
        own = (name for name in node.input[2:] if name in constants and readers[name] == 1 and name.count("/") > 1)
        layer = next((BIAS_ENDING.sub("", name) for name in own), None)
        name = f"{layer}/{node.op_type}" if layer else f"{node.op_type}_{number}"
        node.name = f"{name}_{number}" if name in taken else name
        taken.add(node.name)
