"""Operations on the channels of an image. All of them are the same gray, so their order does not matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgecls.networks.imported import is_copied

_ELLIPSIS = "__ellipsis__"
_RGB = 3


class _Node(Protocol):
    """See `graph.LayerCall`."""

    @property
    def kind(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...


def is_image(nodes: Mapping[str, _Node], value: str) -> bool:
    """Return True for the image "", for one whose channels were all scaled alike, and for copies of it as channels."""
    while value:
        node = nodes[value]
        scaled = node.kind == "Rescaling" and not any(isinstance(number, list) for number in node.settings.values())
        if not scaled and not is_copied(node.kind, node.settings, node.inputs):
            return False
        value = node.inputs[0]
    return True


def picks_channels(function: str) -> bool:
    """Return True for an operation that takes parts of its input, or stacks inputs."""
    return _short(function) in ("getitem", "stack")


def keeps_channels(function: str, constants: dict[str, Any]) -> bool:
    """Return True if such an operation only orders or picks channels: image[..., ::-1], image[..., 0] or a stack."""
    if _short(function) == "stack":
        return True
    (index,) = [value for name, value in constants.items() if not name.startswith("input ")]
    if not (isinstance(index, list) and len(index) == 2 and index[0].get("class_name") == _ELLIPSIS):
        return False
    if isinstance(index[1], int):
        return True
    step = index[1].get("config", index[1])
    return isinstance(step, (dict, list)) and -1 in (step.values() if isinstance(step, dict) else step)


def copies_gray(function: str, constants: dict[str, Any]) -> bool:
    """Return True for an operation that makes RGB of one gray channel: grayscale_to_rgb, or repeat and tile."""
    short = _short(function).replace("_", "")
    given = [value for name, value in constants.items() if not name.startswith("input ")]
    if short == "repeat":
        return [value for value in given if isinstance(value, int)] in ([_RGB, -1], [_RGB, 3])
    return short == "grayscaletorgb" or (short == "tile" and [1, 1, 1, _RGB] in given)


def _short(function: str) -> str:
    return function.rpartition(".")[2].lower()
