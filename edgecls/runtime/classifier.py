"""Load an exported file and classify images with it. Imports no interpreter: the engine's module does, on use."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgecls.container import Kind, detect_kind
from edgecls.errors import ConfigError, DataError, ModelFileError
from edgecls.image import Source, load_gray
from edgecls.spec import ModelSpec, read_bytes, split_file

# Engine -> its module and the kinds of file it runs. The first one that runs a kind is that kind's default.
ENGINES: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "litert": ("edgecls.runtime.litert", ("tflite",)),
    "onnxruntime": ("edgecls.runtime.ort", ("onnx",)),
}
# Small networks stop gaining here, and the boards meant have four cores.
MAX_DEFAULT_THREADS = 4


class Engine(Protocol):
    """An interpreter that holds one graph."""

    @property
    def name(self) -> str:
        """Return the engine's name in `ENGINES`."""

    @property
    def version(self) -> str:
        """Return the version of the interpreter's package."""

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (C,), of one image, uint8 (1, H, W, 1), 0..255."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one image was taken for.

    Attributes:
        label: of the highest score.
        index: of that label in the contract's labels.
        score: the highest score, 0..1.
        scores: of all labels, float32 (C,), sum to 1.
    """

    label: str
    index: int
    score: float
    scores: NDArray[np.float32]


class Classifier:
    """An exported file, ready to classify.

    Attributes:
        spec: the file's contract.
        engine: the interpreter that runs the file.
    """

    def __init__(self, spec: ModelSpec, engine: Engine) -> None:
        self.spec = spec
        self.engine = engine

    def predict(self, source: Source) -> Prediction:
        """Return the prediction for a path, encoded bytes, a Pillow image or an array.

        Raises:
            DataError: the source is no usable image.
            ModelFileError: the network returned NaN.
        """
        scores = self.engine.run(_model_input(source, self.spec.height, self.spec.width))
        index = int(scores.argmax())
        # argmax stops at the first NaN, so this notices one anywhere.
        if scores[index] != scores[index]:
            raise ModelFileError(f"{self.engine.name} returned NaN scores {scores}; re-export the model")
        return Prediction(self.spec.labels[index], index, float(scores[index]), scores)

    def predict_batch(self, sources: Iterable[Source]) -> list[Prediction]:
        """Return one prediction a source, in their order; raise as `predict` does."""
        return [self.predict(source) for source in sources]

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the scores, float32 (N, C), of ready images, uint8 (N, H, W, 1), 0..255.

        Raises:
            DataError: another shape or dtype.
        """
        expected = (self.spec.height, self.spec.width, 1)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            received = f"{images.dtype} {images.shape}"
            raise DataError(
                f"images must be uint8 (N, {expected[0]}, {expected[1]}, 1); received {received}; resize them"
            )
        scores = np.empty((len(images), len(self.spec.labels)), np.float32)
        for i in range(len(images)):
            scores[i] = self.engine.run(np.ascontiguousarray(images[i : i + 1]))
        return scores


def load(path: str | os.PathLike[str], *, engine: str | None = None, threads: int | None = None) -> Classifier:
    """Return the classifier of an exported file, its sha256 verified.

    Args:
        path: a file that `edgecls export` wrote.
        engine: a name in `ENGINES`; None takes the default of the file's kind.
        threads: of the interpreter; None takes the CPUs this process may use, at most `MAX_DEFAULT_THREADS`.

    Raises:
        ConfigError: an unknown engine, one that cannot run this kind of file, or fewer threads than 1.
        MissingDependency: the engine's package is not installed.
        ModelFileError: no such file, no contract in it, or damaged.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1; received {threads}")
    data = read_bytes(path)
    module_name = _engine_module(engine, detect_kind(data))
    graph, spec = split_file(data)
    opened = importlib.import_module(module_name).open_engine(graph, spec, threads or _default_threads())
    return Classifier(spec, cast(Engine, opened))


def _engine_module(engine: str | None, kind: Kind) -> str:
    able = {name: module for name, (module, kinds) in ENGINES.items() if kind in kinds}
    if engine is None:
        return next(iter(able.values()))
    if engine not in able:
        raise ConfigError(f"engine {engine!r} cannot run {kind} files; these can: {', '.join(able)}")
    return able[engine]


def _default_threads() -> int:
    # A container or taskset may allow fewer CPUs than the board has; macOS cannot say.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MAX_DEFAULT_THREADS)


def _model_input(source: Source, height: int, width: int) -> NDArray[np.uint8]:
    # load_gray would give the very same bytes, later.
    ready = isinstance(source, np.ndarray) and source.dtype == np.uint8
    if ready and source.shape in ((height, width, 1), (height, width)):  # type: ignore[union-attr]
        image = np.ascontiguousarray(source)
    else:
        image = load_gray(source, height, width)
    return image.reshape(1, height, width, 1)
