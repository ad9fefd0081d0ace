"""Operations between layers, such as `x / 127.5 - 1`, by their names in files of Keras 3 and Keras 2; their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgecls.errors import ModelFileError

_Layer = tuple[str, dict[str, Any]]

# The last part of an operation's name, in small letters without underscores -> what it is.
_ALIASES = {
    "truedivide": "divide",
    "truediv": "divide",
    "realdiv": "divide",
    "mul": "multiply",
    "sub": "subtract",
    "biasadd": "add",
    "addv2": "add",
    "swish": "silu",
    "hardswish": "hard_silu",
    "hardsilu": "hard_silu",
    "hardsigmoid": "hard_sigmoid",
    "leakyrelu": "leaky_relu",
    "concat": "concatenate",
    "reducemean": "mean",
    "converttotensor": "identity",
    "stopgradient": "identity",
    "cast": "identity",
}
_BINARY = {"add": "Add", "multiply": "Multiply", "subtract": "Subtract", "maximum": "Maximum", "minimum": "Minimum"}
_ACTIVATIONS = (
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "hard_silu",
    "hard_sigmoid",
    "softmax",
    "gelu",
    "elu",
    "softplus",
)
# As Keras 3 names them without a module, in .h5 files.
OPERATIONS = frozenset(
    "GetItem Stack Add Multiply Subtract Divide TrueDivide Relu Relu6 Sigmoid Tanh Silu HardSilu "
    "HardSigmoid Softmax Gelu LeakyRelu Mean Reshape Resize Repeat Tile Concatenate Maximum Minimum Identity "
    "Cast".split()
)


def operation_layer(name: str, function: str, inputs: int, arguments: dict[str, Any]) -> _Layer:
    """Return the layer, as (kind, settings), that computes an operation; the kind "" for one that changes nothing.

    Args:
        name: of the operation in the model.
        function: such as "math.truediv" (Keras 2) or "TrueDivide" (Keras 3).
        inputs: how many tensors it reads.
        arguments: its other arguments and settings; "input x" stands for an argument that is a tensor.

    Raises:
        ModelFileError: it cannot be a layer.
    """
    short = function.rpartition(".")[2].lower().replace("_", "")
    kind = _ALIASES.get(short, short)
    if kind == "identity" and inputs == 1:
        return "", {}
    if kind in _BINARY and inputs == 2:
        return _BINARY[kind], {}
    if kind in ("add", "multiply", "subtract", "divide") and inputs == 1:
        return "Rescaling", _rescaling(name, kind, arguments)
    if kind in _ACTIVATIONS and inputs == 1 and _is_plain(kind, arguments):
        return "Activation", {"activation": kind}
    if (layer := _other_layer(kind, inputs, arguments)) is not None:
        return layer
    raise ModelFileError(
        f"operation {name!r:.60} ({function!r:.60}) between layers cannot be imported. Use a layer of Keras instead, "
        "or do it before the model, and save the model again"
    )


def _other_layer(kind: str, inputs: int, arguments: dict[str, Any]) -> _Layer | None:
    """Return the layer of an operation with arguments of its own, or None."""
    if kind == "concatenate":
        return "Concatenate", {"axis": arguments.get("axis", arguments.get("1", -1))}
    if inputs != 1:
        return None
    if kind == "leaky_relu":
        return "LeakyReLU", {"negative_slope": arguments.get("negative_slope", arguments.get("alpha", 0.2))}
    if kind == "mean" and _axes(arguments) in ([1, 2], [-3, -2]):
        return "GlobalAveragePooling2D", {"keepdims": bool(arguments.get("keepdims"))}
    shape = arguments.get("newshape", arguments.get("size", arguments.get("1")))
    if kind == "reshape" and isinstance(shape, list):
        return "Reshape", {"target_shape": shape[1:]}
    method = arguments.get("interpolation", arguments.get("method", "bilinear"))
    if kind == "resize" and isinstance(shape, list) and len(shape) == 2 and not arguments.get("antialias"):
        return "Resizing", {"height": shape[0], "width": shape[1], "interpolation": method}
    return None


def _rescaling(name: str, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return scale and offset of `x + c`, `c - x` and the like."""
    given = [_number(value) for key, value in arguments.items() if not key.startswith("input ")]
    constants = [value for value in given if value is not None]
    if len(constants) != 1:
        raise ModelFileError(f"operation {name!r:.60} has no constant that is a number; it cannot be imported")
    constant = constants[0]
    # In `c - x` the constant comes first.
    reads = [key for key in arguments if key.startswith("input ")]
    first = bool(reads) and reads[0] in ("input 1", "input y", "input x2")
    rules: dict[str, Callable[[], tuple[Any, Any]]] = {
        "add": lambda: (1.0, constant),
        "multiply": lambda: (constant, 0.0),
        "subtract": lambda: (-1.0, constant) if first else (1.0, -constant),
        "divide": lambda: (1.0 / constant, 0.0),
    }
    if kind == "divide" and first:
        raise ModelFileError(f"operation {name!r:.60} divides by features; it cannot be imported")
    scale, offset = (np.asarray(value, np.float64).tolist() for value in rules[kind]())
    return {"scale": scale, "offset": offset}


def _number(value: Any) -> Any:
    """Return a number or a vector of one number for each channel; None for anything else."""
    if isinstance(value, dict) and value.get("class_name") in ("__tensor__", "__numpy__"):
        value = value["config"]["value"]
    # What Keras 2 writes for `3 - x`.
    if isinstance(value, list) and value[:1] == ["_CONSTANT_VALUE"]:
        value = value[2]
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        return None
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(-1) if array.ndim and array.size == array.shape[-1] else (array if not array.ndim else None)


def _is_plain(kind: str, arguments: dict[str, Any]) -> bool:
    """Return True if an activation has its usual arguments."""
    usual = {"axis": -1, "approximate": False, "alpha": 1.0} if kind == "gelu" else {"axis": -1, "alpha": 1.0}
    given = {key: value for key, value in arguments.items() if not key.startswith("input ")}
    return all(value is None or usual.get(key, value is None) == value for key, value in given.items())


def _axes(arguments: dict[str, Any]) -> list[int] | None:
    axes = arguments.get("axis", arguments.get("1"))
    return list(axes) if isinstance(axes, (list, tuple)) else None
