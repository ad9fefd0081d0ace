"""The calls of layers in a Keras configuration: `inbound_nodes`, as Keras 3 and Keras 2 write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from edgecls.errors import ModelFileError


class Call:
    """One entry of `inbound_nodes`: the layers that are read, as [name, call, output], and other arguments."""

    def __init__(self, node: Any) -> None:
        self.references: list[list[Any]] = []
        self.constants: dict[str, Any] = {}
        if isinstance(node, dict):
            arguments = {str(i): value for i, value in enumerate(node.get("args", ()))} | node.get("kwargs", {})
        else:
            # Keras 2: [name, call, output, {other arguments}], or a list of them.
            parts = [node] if _is_legacy_reference(node) else list(node)
            arguments = {str(i): part[:3] for i, part in enumerate(parts)}
            for part in parts:
                arguments |= part[3] if len(part) > 3 else {}
        # What the notebook wrote in the call; None or False leaves a layer as it predicts.
        self.is_training = arguments.get("training") is True
        for name, value in arguments.items():
            found = list(_references(value))
            self.references += found
            if not found and name not in ("training", "mask", "name", "data_format"):
                self.constants[name] = value
            elif found:
                self.constants[f"input {name}"] = len(found)


def ends(value: Any) -> list[list[Any]]:
    """Return a list of references; Keras 3 writes a single one without its list, and named ones as an object."""
    if isinstance(value, dict):
        return list(value.values())
    return [value] if value and isinstance(value[0], str) else list(value)


def _is_legacy_reference(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _references(value: Any) -> Iterator[list[Any]]:
    """Yield every [layer, call, output] in an argument."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]["keras_history"]
    elif _is_legacy_reference(value):
        if value[0] != "_CONSTANT_VALUE":
            yield value[:3]
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _references(each)


def first_calls(calls: dict[str, list[Call]], last: list[Any]) -> dict[str, int]:
    """Return the number of each layer's first call: 1 for nested models in files of Keras 2."""
    highest: defaultdict[str, int] = defaultdict(int)
    for name, number, _ in [last, *(ref for found in calls.values() for call in found for ref in call.references)]:
        highest[name] = max(highest[name], number)
    return {name: 1 for name, found in calls.items() if found and highest[name] == len(found)}


def resolve(reference: Sequence[Any], firsts: dict[str, int]) -> tuple[str, int]:
    """Return the layer that a reference names, and which of its calls; `firsts` is what `first_calls` returned."""
    name, number, output = reference
    if output:
        raise ModelFileError(f"layer {name!r} has several outputs, which cannot be imported")
    return name, number - firsts.get(name, 0)
