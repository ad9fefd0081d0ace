"""Loads exported files and classifies images with them. The engine's module imports the interpreter when needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.cpus import default_threads
from edgecls.errors import ConfigError, DataError, ModelFileError
from edgecls.images.decode import Source, load_gray
from edgecls.images.pillow import to_rgb
from edgecls.limits import MAX_THREADS
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import read_bytes, read_model_file
from edgecls.preprocessing import Preprocessing, Roi
from edgecls.runtime.engines import Engine as Engine
from edgecls.runtime.engines import choose_engine, open_engine
from edgecls.runtime.read_ahead import map_ahead

if TYPE_CHECKING:
    from edgecls.images.depth import Scale

ChannelOrder = Literal["rgb", "bgr"]
# The first run packs weights and fills caches; a GPU takes a few runs to choose kernels.
WARMUP_RUNS = 3
AnySource = TypeVar("AnySource", bound=Source)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image."""

    label: str | None  # of `ModelSpec.decide`; None if the highest score is below the classifier's threshold
    index: int  # of that label in the file's labels, rejected or not
    score: float  # of that label, 0..1
    scores: NDArray[np.float32]  # of all labels, float32 (C,), sum to 1
    defect: bool | None = None  # whether the label is not the file's good class; None if it names none, or if rejected
    # How much each position of the image speaks for label `index`, float32 (h, w); None without `export --heatmap`.
    heatmap: NDArray[np.float32] | None = None


class _Closed:
    """Replaces the engine after `close`."""

    name = version = device = "closed"
    threads = 0

    def run(self, image: NDArray[np.uint8]) -> Any:
        raise ConfigError("this Classifier is closed; load the file again")

    run_with_heatmap = run


class Classifier:
    """An exported file, ready to classify. Threads may share it; `with` closes it.

    Images may be paths, encoded bytes, Pillow images or arrays: uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or
    uint16 (H, W) or (H, W, 1), of which `spec.bits` are used. Arrays of 3 or 4 channels need `channel_order`: "bgr" for
    OpenCV's frames and picamera2's RGB888 and XRGB8888, "rgb" for picamera2's BGR888 and XBGR8888. A fourth channel is
    padding.

    Attributes:
        spec: the file's metadata.
        engine: the interpreter that runs the file.
        threshold: labels of lower scores are rejected; None rejects none.
        name: of the file, in errors.
    """

    def __init__(self, spec: ModelSpec, engine: Engine, threshold: float | None = None, name: str = "the file") -> None:
        if threshold is not None and not (_is_a(threshold, (int, float, np.number)) and 0 <= threshold <= 1):
            raise ConfigError(f"threshold must be a number from 0 to 1; received {threshold!r}")
        self.spec, self.name = spec, name
        self.threshold = spec.threshold if threshold is None else threshold
        self.engine: Engine = engine

    def read(
        self, source: Source, *, channel_order: ChannelOrder | None = None, scales: list[Scale] | None = None
    ) -> NDArray[np.uint8]:
        """Return the image that the network takes, uint8 (H, W, 1), 0..255; raise as `predict` does for the source.

        The `Scale` of a picture of more than 8 bits is added to `scales`.
        """
        return cast("NDArray[np.uint8]", _model_input(source, self.spec, channel_order, scales)[0])

    def predict(self, source: Source, *, channel_order: ChannelOrder | None = None) -> Prediction:
        """Return the prediction for one image.

        Raises:
            ConfigError: the array has channels and `channel_order` is not given, or the classifier is closed.
            DataError: the source is no usable image.
            ModelFileError: the network returned scores that are NaN or infinite.
        """
        return self._classify(_model_input(source, self.spec, channel_order))

    def classify(self, image: NDArray[np.uint8]) -> Prediction:
        """Return the prediction for what `read` returned, uint8 (H, W, 1), 0..255.

        Raises:
            ConfigError, ModelFileError: as of `predict`. DataError: another shape or dtype.
        """
        expected, image = (self.spec.height, self.spec.width, 1), np.asarray(image)
        if image.dtype != np.uint8 or image.shape != expected:
            raise DataError(f"the image must be uint8 {expected}; received {image.dtype} {image.shape}; use `read`")
        return self._classify(np.ascontiguousarray(image)[np.newaxis])

    def predict_batch(
        self, sources: Iterable[Source], *, channel_order: ChannelOrder | None = None
    ) -> list[Prediction]:
        """Return one prediction a source, in their order; raise as `predict` does."""
        return [self.predict(source, channel_order=channel_order) for source in _several(sources)]

    def predict_iter(
        self, sources: Iterable[AnySource], *, channel_order: ChannelOrder | None = None, workers: int | None = None
    ) -> Iterator[tuple[AnySource, Prediction | DataError]]:
        """Yield each source with its prediction, in their order, while threads decode the next ones.

        An unusable image gives its DataError instead of a prediction. What the iterable itself raises comes after the
        predictions of all earlier images. At most 2 * `workers` + 2 sources are held, so a camera that is faster than
        the network is read late by as many frames.

        Args:
            sources: of images, such as paths or a generator of camera frames; may be endless. It is read in a separate
                thread. A frame must not be changed before it is yielded.
            channel_order: as in `predict`.
            workers: threads that decode; None takes `default_threads()`.

        Raises:
            ConfigError: as `predict` raises it, or fewer workers than 1.
            ModelFileError: as `predict` raises it.
        """

        def read(source: Source) -> NDArray[np.uint8] | DataError:
            try:
                return _model_input(source, self.spec, channel_order)
            except DataError as error:
                return error

        workers = _count("workers", workers)
        for source, image in map_ahead(read, _several(sources), workers):
            yield source, image if isinstance(image, DataError) else self._classify(image)

    def scores(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the scores, float32 (N, C), of ready images, uint8 (N, H, W, 1), 0..255, as one array or a list.

        Raises:
            DataError: another shape or dtype. ModelFileError: as `predict` raises it.
        """
        expected = (self.spec.height, self.spec.width, 1)
        try:
            images = np.asarray(images)
        except ValueError as error:
            raise DataError(f"images must all be uint8 {expected}; {error}; resize them") from error
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            received = f"{images.dtype} {images.shape}"
            raise DataError(
                f"images must be uint8 (N, {expected[0]}, {expected[1]}, 1); received {received}; resize them"
            )
        scores = np.empty((len(images), len(self.spec.labels)), np.float32)
        for i in range(len(images)):
            scores[i] = self._check(self.engine.run(np.ascontiguousarray(images[i : i + 1])))
        return scores

    def warmup(self, runs: int = WARMUP_RUNS) -> None:
        """Run the network on a black image, so that the first real one takes no longer than the others."""
        if not _is_a(runs, (int, np.integer)):
            raise ConfigError(f"runs must be a whole number; received {runs!r}")
        black = np.zeros((1, self.spec.height, self.spec.width, 1), np.uint8)
        for _ in range(runs):
            self.engine.run(black)

    def close(self) -> None:
        """Release the interpreter and its memory; predicting raises ConfigError afterwards."""
        self.engine = _Closed()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _classify(self, image: NDArray[np.uint8]) -> Prediction:
        scores, heatmap = self.engine.run_with_heatmap(image) if self.spec.heatmap else (self.engine.run(image), None)
        index, defect = self.spec.decide(self._check(scores))
        rejected = self.threshold is not None and float(scores.max()) < self.threshold
        label, defect = (None, None) if rejected else (self.spec.labels[index], defect)
        shown = None if heatmap is None else heatmap[:, :, index].copy()
        return Prediction(label, index, float(scores[index]), scores, defect, shown)

    def _check(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores; raise ModelFileError for NaN, which `argmax` takes for the best, and for infinite ones."""
        if not np.isfinite(scores).all():
            kind = "NaN" if np.isnan(scores).any() else "infinite"
            raise ModelFileError(f"{self.name} returned {kind} scores in {self.engine.name}; export it again")
        return scores


def to_entry(name: str, prediction: Prediction, spec: ModelSpec) -> dict[str, Any]:
    """Return the entry of `predict --json` for one image; `spec` is the metadata of the classifier."""
    scores = {label: round(float(score), 6) for label, score in zip(spec.labels, prediction.scores, strict=True)}
    best = {"label": prediction.label, "index": prediction.index, "score": round(prediction.score, 6)}
    defect = {"defect": prediction.defect} if spec.good_class else {}
    return {"image": name, **best, **defect, "scores": scores}


def load(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    engine: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    threshold: float | None = None,
    roi: Roi | None = None,
    untrusted: bool = False,
) -> Classifier:
    """Return the classifier of an exported file, its sha256 verified.

    Args:
        path: a file that `edgecls export` wrote, or its content.
        engine: a name in `engines.ENGINES`, or "ort"; None takes the first that fits file and device and is installed.
        threads: of the interpreter; None takes `default_threads()`.
        device: a name in `engines.DEVICES`.
        threshold: labels of lower scores are rejected; None takes the file's own.
        roi: left, top, width and height of the part of each image that is classified; None takes the file's own.
        untrusted: load and run it in a child process first, because a malicious file may crash an interpreter.

    Raises:
        ConfigError: an unknown engine or device, one that cannot run this file, another device than asked, or
            threads, threshold or roi out of range.
        MissingDependency: the engine's package, or the device's library, is not installed.
        ModelFileError: no such file, no metadata in it, damaged, or it crashed the child process.
    """
    if isinstance(path, (bytearray, memoryview)):
        path = bytes(path)
    data = path if isinstance(path, bytes) else read_bytes(path)
    threads = _count("threads", threads)
    model = read_model_file(data, name="" if isinstance(path, bytes) else path)
    name = choose_engine(model.format, engine, device)
    if untrusted:
        from edgecls.runtime.trial import try_in_child  # imported late: seldom needed

        try_in_child(data, name, threads, device)
    spec = model.spec if roi is None else replace(model.spec, roi=Preprocessing(roi=roi).roi)
    opened = open_engine(name, model, threads, device)
    return Classifier(spec, opened, threshold, "the file" if data is path else str(path))


def _count(name: str, value: int | None) -> int:
    if value is None:
        return default_threads()
    if not (_is_a(value, (int, np.integer)) and 1 <= value <= MAX_THREADS):
        raise ConfigError(f"{name} must be a whole number from 1 to {MAX_THREADS}; received {value!r}")
    return int(value)


def _is_a(value: object, kinds: tuple[type, ...]) -> bool:
    # bool is a subclass of int.
    return isinstance(value, kinds) and not isinstance(value, bool)


def _several(sources: Iterable[AnySource]) -> Iterable[AnySource]:
    """Return sources; raise DataError for a single image, whose letters or rows would be taken for images."""
    rows = isinstance(sources, np.ndarray) and (
        sources.ndim < 3 or (sources.ndim == 3 and sources.shape[2] in (1, 3, 4))
    )
    if rows or isinstance(sources, (str, bytes, bytearray, memoryview)) or not isinstance(sources, Iterable):
        received = f"an array {sources.shape}" if isinstance(sources, np.ndarray) else type(sources).__name__
        raise DataError(f"images must be a list or another iterable of images; received {received}; pass [image]")
    return sources


def _model_input(
    source: Source, spec: ModelSpec, channel_order: ChannelOrder | None, scales: list[Scale] | None = None
) -> NDArray[np.uint8]:
    """Return the image that the network takes, uint8 (1, H, W, 1), 0..255."""
    shape = (1, spec.height, spec.width, 1)
    if isinstance(source, np.ndarray):
        # The same bytes as from load_gray, but faster. The region of interest is one of larger pictures.
        ready = source.dtype == np.uint8 and source.shape in (shape[1:], shape[1:3])
        if ready and spec.roi is None and not isinstance(source, np.ma.MaskedArray):
            return np.ascontiguousarray(source).reshape(shape)
        if source.ndim == 3 and source.shape[2] in (3, 4):
            source = to_rgb(source, channel_order)
    found: list[Scale] = []
    pixels = load_gray(source, spec.height, spec.width, spec.preprocessing, found)
    if found:
        from edgecls.images.depth import warn_of_nearly_black

        warn_of_nearly_black(found)
    if scales is not None:
        scales += found
    return pixels.reshape(shape)
