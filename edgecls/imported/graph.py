"""Reads the configuration of a Keras model as one flat list of layers, nested models included."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgecls.errors import ModelFileError
from edgecls.imported.calls import Call, ends, first_calls, resolve
from edgecls.imported.channels import copies_gray, is_image, keeps_channels, picks_channels
from edgecls.imported.layers import MODELS, TRAINING_ONLY, activation_name, check_kind, clean_settings
from edgecls.imported.operations import OPERATIONS, operation_layer
from edgecls.networks.imported import SETTINGS

# NASNetLarge has some 1,500.
MOST_LAYERS = 5_000
# A model that is nested in itself in pairs doubles them with each level.
MOST_CALLS = 100_000
MOST_NAME = 80
MOST_NESTED = 20
# What the configuration of an operation says that is not an argument of it.
_OPERATION_SETTINGS = ("name", "trainable", "dtype", "function")


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer.

    Attributes:
        name: unique in the model.
        kind: name of its class in keras.layers.
        settings: arguments of the class.
        inputs: names of the nodes that it reads; the image is "".
        path: of its weights in a .keras file; "" without weights.
        scope: names of the nested models that it is in, and its own.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]
    path: str = ""
    scope: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerGraph:
    """A flat model.

    Attributes:
        input_shape: of one image, without the batch: (H, W, C), (H, W) or (N,); unknown sides are None.
        nodes: in an order in which they can be computed.
        output: name of the node that gives the result.
    """

    input_shape: tuple[int | None, ...]
    nodes: tuple[LayerCall, ...]
    output: str


@dataclass
class _Reader:
    keras_2: bool
    is_gray: bool
    nodes: dict[str, LayerCall] = field(default_factory=dict)
    calls: int = 0

    def add(self, kind: str, name: str, settings: dict[str, Any], inputs: Sequence[str], **where: Any) -> str:
        """Append a node and return its unique name."""
        if len(self.nodes) >= MOST_LAYERS:
            raise ModelFileError(f"it has more than {MOST_LAYERS:,} layers")
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:MOST_NAME]
        if name in self.nodes:
            numbered = (f"{name}_{number}" for number in itertools.count(len(self.nodes)))
            name = next(each for each in numbered if each not in self.nodes)
        self.nodes[name] = LayerCall(name, kind, settings, tuple(inputs), **where)
        return name

    def model(self, config: dict[str, Any], inputs: Sequence[str], path: str, scope: tuple[str, ...]) -> str:
        """Append the layers of a model that reads `inputs`; return the node of its output."""
        if len(scope) > MOST_NESTED:
            raise ModelFileError(f"its models are nested more than {MOST_NESTED} times")
        if config["class_name"] == "Sequential":
            _check_ends(1, len(inputs), 1, scope)
            return self._sequential(_layers(config), inputs[0], path, scope)
        return self._functional(config["config"], inputs, path, scope)

    def _sequential(self, layers: list[dict[str, Any]], value: str, path: str, scope: tuple[str, ...]) -> str:
        for layer, place in _with_paths(layers, path):
            value = self.call(layer, [value], {}, place, scope)
        return value

    def _functional(self, settings: dict[str, Any], inputs: Sequence[str], path: str, scope: tuple[str, ...]) -> str:
        layers = {layer["name"]: (layer, place) for layer, place in _with_paths(settings["layers"], path)}
        firsts, (last, *more) = (ends(settings[key]) for key in ("input_layers", "output_layers"))
        _check_ends(len(firsts), len(inputs), 1 + len(more), scope)
        nodes = {name: layer["inbound_nodes"] for name, (layer, _) in layers.items()}
        calls = {name: [Call(node) for node in found] for name, found in nodes.items()}
        offset = first_calls(calls, last)
        values = {(first[0], 0): value for first, value in zip(firsts, inputs, strict=True)}
        # Without recursion, because a chain of layers may be longer than Python's stack.
        pending = [resolve(last, offset)]
        waiting: set[tuple[str, int]] = set()
        while pending:
            name, number = key = pending[-1]
            if key in values:
                pending.pop()
                continue
            call = calls[name][number]
            missing = [ref for ref in (resolve(each, offset) for each in call.references) if ref not in values]
            if missing:
                if key in waiting:
                    raise ModelFileError(f"layer {name!r} reads its own output")
                waiting.add(key)
                pending += missing
                continue
            layer, place = layers[name]
            if call.is_training and "BatchNormalization" in json.dumps(layer):
                raise ModelFileError(
                    f"layer {name!r} is called with training=True, so that BatchNormalization gives other scores with "
                    "other images in the batch; call it without, and save the model again"
                )
            read = [values[resolve(each, offset)] for each in call.references]
            values[key] = self.call(layer, read, call.constants, place, scope)
            pending.pop()
        return values[resolve(last, offset)]

    def call(
        self, layer: dict[str, Any], inputs: list[str], constants: dict[str, Any], path: str, scope: tuple[str, ...]
    ) -> str:
        """Append what one layer computes and return the node of its result."""
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise ModelFileError(f"its nested models call more than {MOST_CALLS:,} layers")
        kind, settings = str(layer["class_name"]), layer["config"]
        name = str(layer.get("name") or (settings.get("name") if isinstance(settings, dict) else None) or kind)
        inside = (*scope, name)
        if _is_operation(layer, kind, len(inputs)):
            function = str(settings.get("function", kind))
            settings = {key: value for key, value in settings.items() if key not in _OPERATION_SETTINGS}
            return self._operation(name, function, inputs, constants | settings)
        is_custom = ">" in str(layer.get("registered_name"))
        check_kind(kind, name, "a custom package" if is_custom else layer.get("module"))
        if kind in MODELS:
            return self.model(layer, inputs, path, inside)
        if kind in TRAINING_ONLY:
            return inputs[0]
        cleaned = clean_settings(kind, name, settings)
        activation = activation_name(settings.get("activation"), name)
        if kind == "Activation":
            return self._activate(activation, name, inputs[0])
        result = self.add(kind, name, cleaned, inputs, path=path, scope=inside)
        return self._activate(activation, f"{name}_activation", result)

    def _activate(self, activation: str | dict[str, Any], name: str, value: str) -> str:
        if isinstance(activation, dict):
            return self.call(activation, [value], {}, "", ())
        if activation == "linear":
            return value
        if activation in ("relu", "relu6"):
            return self.add("ReLU", name, {"max_value": 6.0 if activation == "relu6" else None}, [value])
        if activation == "hard_sigmoid" and self.keras_2:
            # Keras 3 has another function under this name.
            scaled = self.add("Rescaling", f"{name}_scaled", {"scale": 0.2, "offset": 0.5}, [value])
            return self.add("ReLU", name, {"max_value": 1.0}, [scaled])
        return self.add("Activation", name, {"activation": activation}, [value])

    def _operation(self, name: str, function: str, inputs: list[str], constants: dict[str, Any]) -> str:
        if picks_channels(function):
            if all(is_image(self.nodes, value) for value in inputs) and keeps_channels(function, constants):
                return inputs[0]
            raise ModelFileError(f"operation {name!r} ({function}) cuts or stacks features, which cannot be imported")
        if copies_gray(function, constants) and self.is_gray and is_image(self.nodes, inputs[0]):
            return self.add("Concatenate", name, {"axis": -1}, inputs[:1] * 3)
        kind, options = operation_layer(name, function, len(inputs), constants)
        if kind == "Activation":
            return self._activate(options["activation"], name, inputs[0])
        return self.add(kind, name, options, inputs) if kind else inputs[0]


def read_graph(config: dict[str, Any], *, keras_2: bool) -> LayerGraph:
    """Return the layers of a model from its configuration.

    Raises:
        ModelFileError: it has layers, operations or settings that cannot be imported.
    """
    kind = str(config.get("class_name"))
    if kind not in MODELS or ">" in str(config.get("registered_name")):
        raise ModelFileError(
            f"its model is of the class {kind!r:.60}, written in Python of its own, which is never run. Build the same "
            "layers with keras.Sequential or keras.Model(inputs, outputs), copy the weights and save that"
        )
    check_kind(kind, str(config.get("name", kind)), config.get("module"))
    shape = _input_shape(config)
    reader = _Reader(keras_2, is_gray=shape[-1:] == (1,))
    output = reader.model(config, [""], "", ())
    if not output:
        raise ModelFileError("it has no layer that computes anything")
    return _without_resizing(LayerGraph(shape, tuple(reader.nodes.values()), output))


def _without_resizing(graph: LayerGraph) -> LayerGraph:
    """Return the graph without a Resizing of images of any size to a square: edgecls resizes images to that size."""
    value = ""
    while len(readers := [node for node in graph.nodes if value in node.inputs]) == 1:
        (node,) = readers
        side = node.settings.get("height")
        if node.kind == "Resizing" and side == node.settings.get("width") and side and node.name != graph.output:
            if any(own not in (None, side) for own in graph.input_shape[:2]) or len(graph.input_shape) != 3:
                return graph
            nodes = tuple(
                replace(each, inputs=tuple(value if name == node.name else name for name in each.inputs))
                for each in graph.nodes
                if each is not node
            )
            return LayerGraph((side, side, *graph.input_shape[2:]), nodes, graph.output)
        if node.kind != "Rescaling":
            return graph
        value = node.name
    return graph


def _check_ends(inputs: int, given: int, outputs: int, scope: Sequence[str]) -> None:
    """Raise ModelFileError if a model reads more or fewer values than it is given, or has several outputs."""
    what = f"the model {'/'.join(scope)!r}" if scope else "it"
    if inputs != given:
        raise ModelFileError(
            f"{what} has {inputs} inputs and is given {given}; a model of one image is supported. Train one without "
            "the others; where all take the same image, save keras.Model(image, model([image] * "
            f"{inputs})) with image = keras.Input(model.input_shape[0][1:])"
        )
    if outputs > 1:
        raise ModelFileError(
            f"{what} has {outputs} outputs; one is supported. Save keras.Model(model.inputs, model.outputs[0]), with "
            "the number of the output that holds the classes in place of 0"
        )


def _is_operation(layer: dict[str, Any], kind: str, inputs: int) -> bool:
    """Return True for an operation between layers; .h5 files name it like a layer."""
    if kind in ("TFOpLambda", "SlicingOpLambda") or str(layer.get("module") or "").startswith("keras.src.ops."):
        return True
    if "module" in layer or kind not in OPERATIONS:
        return False
    return kind not in SETTINGS or (inputs == 1 and kind in ("Add", "Subtract", "Multiply", "Maximum", "Minimum"))


def _layers(config: dict[str, Any]) -> list[dict[str, Any]]:
    settings = config["config"]
    found: list[dict[str, Any]] = settings if isinstance(settings, list) else settings["layers"]
    return found


def _with_paths(layers: Sequence[dict[str, Any]], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each layer and where a .keras file has its weights: numbered by class within a model."""
    counts: Counter[str] = Counter()
    for layer in layers:
        name = _snake_case(str(layer["class_name"]))
        number = f"_{counts[name]}" if counts[name] else ""
        counts[name] += 1
        yield layer, f"{path}/layers/{name}{number}".lstrip("/")


def _snake_case(name: str) -> str:
    """Return what keras.src.utils.naming.to_snake_case returns."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _input_shape(config: dict[str, Any]) -> tuple[int | None, ...]:
    """Return the shape of one image from the first layer that says it."""
    settings, layers = config["config"], _layers(config)
    if config["class_name"] != "Sequential":
        name = ends(settings["input_layers"])[0][0]
        layers = [layer for layer in layers if layer.get("name") == name]
    inner = layers[0]["config"]
    nested = layers[0]["class_name"] in MODELS
    shape = None if nested and isinstance(inner, list) else inner.get("batch_shape") or inner.get("batch_input_shape")
    shape = shape or (settings.get("build_input_shape") if isinstance(settings, dict) else None)
    if shape is None and nested:
        return _input_shape(layers[0])
    if not isinstance(shape, list):
        raise ModelFileError("it does not say the size of its images; call model.build(...) before you save it")
    return tuple(shape[1:])
