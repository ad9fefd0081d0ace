"""The engines, the formats and devices that each supports, and the choice of one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.install import ENGINE_PACKAGES
from edgecls.errors import ConfigError, ModelFileError
from edgecls.limits import Format
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import ModelFile, check_runnable

DEVICES = ("cpu", "cuda", "tensorrt", "edgetpu")
# What a program on this machine stands for: their answers count, their times mean nothing.
SIMULATORS = ("torq-simulator",)
ALIASES = {"ort": "onnxruntime"}
# Characters of an interpreter's error that are shown.
MAX_SHOWN = 500


class Engine(Protocol):
    """An interpreter with one graph. Threads may share it."""

    @property
    def name(self) -> str:
        """Return the engine's name in `ENGINES`."""

    @property
    def version(self) -> str:
        """Return the version of the interpreter's package."""

    @property
    def device(self) -> str:
        """Return what the graph runs on: a name in `DEVICES` or `SIMULATORS`."""

    @property
    def threads(self) -> int:
        """Return how many CPU threads the interpreter was given."""

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255.

        Raises:
            ModelFileError: the graph cannot be run.
        """

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores of one image and its class activation map, float32 (h, w, C); raise as `run` does.

        Only for graphs that have the map as a second output.
        """


class EngineKind(NamedTuple):
    """What is known about an engine before its module is imported."""

    module: str
    kinds: tuple[Format, ...]
    devices: tuple[str, ...]


# The default is the first one that is installed and supports the file: the one that `edgecls export` scored it in.
ENGINES: dict[str, EngineKind] = {
    "litert": EngineKind("edgecls.runtime.litert", ("tflite",), ("cpu", "edgetpu")),
    "onnxruntime": EngineKind("edgecls.runtime.ort", ("onnx",), ("cpu", "cuda", "tensorrt")),
    "openvino": EngineKind("edgecls.runtime.openvino", ("onnx", "tflite"), ("cpu",)),
    "torq": EngineKind("edgecls.runtime.torq_simulator", ("tflite",), SIMULATORS),
}

# Those that no simulator runs.
HARDWARE_ENGINES = tuple(name for name, entry in ENGINES.items() if entry.devices != SIMULATORS)


def choose_engine(kind: Format, engine: str | None = None, device: str = "cpu") -> str:
    """Return the name in `ENGINES` of the engine that runs files of a format on a device.

    Args:
        kind: format of the file.
        engine: a name in `ENGINES` or `ALIASES`; None takes the first one that is installed, or else the first.
        device: a name in `DEVICES` or `SIMULATORS`.

    Raises:
        ConfigError: an unknown engine or device, or none that runs such files.
    """
    if device not in (*DEVICES, *SIMULATORS):
        raise ConfigError(f"unknown device {device!r}; devices are {', '.join((*DEVICES, *SIMULATORS))}")
    if engine is not None and not isinstance(engine, str):
        raise ConfigError(f"engine must be a name; received {engine!r}; engines are {', '.join(ENGINES)}")
    of_kind = {name: entry for name, entry in ENGINES.items() if kind in entry.kinds}
    able = [name for name, entry in of_kind.items() if device in entry.devices]
    name = ALIASES.get(engine, engine) if engine else None
    if name is not None and name not in of_kind:
        raise ConfigError(f"engine {engine!r} cannot run {kind} files; these can: {', '.join(able or of_kind)}")
    if name is not None and name not in able:
        others = able or [other for other, entry in ENGINES.items() if device in entry.devices]
        raise ConfigError(
            f"engine {name!r} cannot use device {device!r}; these can: {', '.join(others)}. Devices of {name!r}: "
            f"{', '.join(ENGINES[name].devices)}"
        )
    if not able:
        kinds = [other for entry in ENGINES.values() if device in entry.devices for other in entry.kinds]
        raise ConfigError(f"no engine runs {kind} files on device {device!r}; pass a file of kind {' or '.join(kinds)}")
    return name or next((other for other in able if is_installed(other)), able[0])


def own_engine(kind: Format) -> str:
    """Return the engine in which `edgecls export` scores files of this format."""
    return next(name for name, entry in ENGINES.items() if kind in entry.kinds)


def is_installed(engine: str) -> bool:
    """Return whether one of the engine's packages is installed; it may still fail to load."""
    return any(importlib.util.find_spec(name) for name in import_names(engine))


def import_names(engine: str) -> tuple[str, ...]:
    """Return the names under which the engine's packages are imported; one is enough."""
    return tuple(package.replace("-", "_") for package in ENGINE_PACKAGES[engine])


def open_engine(name: str, model: ModelFile, threads: int, device: str) -> Engine:
    """Return the engine, ready to run the model.

    Args:
        name: as `choose_engine` returns it.
        model: the shapes of its graph must be those of its metadata.
        threads: of the interpreter.
        device: one that this engine has.

    Raises:
        ConfigError: the graph would run on another device.
        MissingDependency: the engine's package, or the device's library, is not installed.
        ModelFileError: the engine refuses the graph, or it is unsafe or not that of the metadata.
    """
    check_runnable(model)
    try:
        opener = importlib.import_module(ENGINES[name].module).open_engine
        return cast(Engine, opener(model.graph, model.spec, threads, device))
    except UnicodeDecodeError as error:
        # Interpreters return names without checking them.
        raise ModelFileError(f"a name in the graph is no UTF-8 ({error}); re-export") from error


def one_line(error: object) -> str:
    """Return an interpreter's error, which may be long, as one short line."""
    return " ".join(str(error).split())[:MAX_SHOWN]


class TensorForm(NamedTuple):
    """An input or output of a loaded graph; a dynamic dimension is not an int."""

    dtype: str
    shape: tuple[object, ...]


def check_tensors(
    inputs: Sequence[TensorForm], outputs: Sequence[TensorForm], spec: ModelSpec, scores: tuple[str, ...]
) -> tuple[int, int, int, int]:
    """Return the shape in which the graph takes its image: (1, H, W, 1), (1, 1, H, W), or (1, H, W, 3) for RGB.

    Args:
        inputs: of the graph.
        outputs: of the graph.
        spec: its metadata.
        scores: dtypes of scores that the engine supports.

    Raises:
        ModelFileError: they do not match the metadata.
    """
    for name, tensors, expected_count in (("input", inputs, 1), ("output", outputs, 1 + spec.heatmap)):
        if len(tensors) != expected_count:
            raise ModelFileError(
                f"the number of the graph's {name}s must be {expected_count}; received {len(tensors)}; re-export"
            )
    source, target = inputs[0], outputs[0]
    last, first = (1, spec.height, spec.width, spec.channels), (1, 1, spec.height, spec.width)
    shapes = (last, first) if spec.channels == 1 else (last,)
    shape = next((shape for shape in shapes if _fits(source.shape, shape)), None)
    if shape is None or source.dtype != spec.input_dtype:
        received = f"{source.dtype} {source.shape}"
        raise ModelFileError(f"the graph's input must be {spec.input_dtype} {last}; received {received}; re-export")
    if not _fits(target.shape, (1, len(spec.labels))) or target.dtype not in scores:
        expected = f"{' or '.join(scores)} (1, {len(spec.labels)})"
        received = f"{target.dtype} {target.shape}"
        raise ModelFileError(f"the graph's output must be {expected}; received {received}; re-export")
    if spec.heatmap:
        _check_heatmap(outputs[1], len(spec.labels))
    return shape


def shaped(image: NDArray[np.uint8], shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return a gray image (1, H, W, 1) in a graph's shape, of `check_tensors`; red, green and blue are its gray."""
    return np.repeat(image, 3, -1) if shape[1:] == (*image.shape[1:3], 3) else image.reshape(shape)


def _check_heatmap(heatmap: TensorForm, labels: int) -> None:
    sides = heatmap.shape
    whole = len(sides) == 4 and all(isinstance(side, int) and side > 0 for side in sides[1:])
    if not whole or sides[3] != labels or heatmap.dtype != "float32":
        received = f"{heatmap.dtype} {sides}"
        raise ModelFileError(
            f"the graph's heat map must be float32 (1, h, w, {labels}); received {received}; re-export"
        )


def _fits(shape: tuple[object, ...], expected: tuple[int, ...]) -> bool:
    # A dynamic batch size is a name or None.
    return shape[1:] == expected[1:] and (shape[:1] == (1,) or not isinstance(shape[0], int))
