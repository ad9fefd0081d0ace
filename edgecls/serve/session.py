"""One classifier behind one thread: what all requests and the live view share."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.errors import DataError, EdgeclsError
from edgecls.images.decode import Source
from edgecls.images.depth import Scale, describe_nearly_black
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.selftest import run_selftest
from edgecls.runtime.classifier import ChannelOrder, Classifier, Prediction, to_entry
from edgecls.serve.metrics import Metrics

if TYPE_CHECKING:
    from edgecls.serve.collect import Collection


@dataclass(frozen=True, eq=False)
class Answer:
    """A prediction and how long it took, in ms: "decode", "network" and "whole", which includes waiting.

    Attributes:
        warning: why the pixels are probably not what was meant, or "".
    """

    prediction: Prediction
    latency_ms: dict[str, float]
    warning: str = ""


class Session:
    """Classifies images one after another, in a thread of its own.

    Args:
        classifier: closed by `close`.
        collection: that keeps uncertain images, or None.
    """

    def __init__(self, classifier: Classifier, collection: Collection | None = None) -> None:
        self.classifier, self.collection = classifier, collection
        self.metrics = Metrics()
        self.selftest = _run_selftest(classifier)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgecls-classifier")
        classifier.warmup()

    def submit(self, source: Source, *, name: str, channel_order: ChannelOrder | None = None) -> Future[Answer]:
        """Return the answer for an image, to come; its exception is DataError if the image cannot be read.

        Args:
            source: as `Classifier.predict` takes it.
            name: of the image, for the collection.
            channel_order: of an array.
        """
        return self._thread.submit(self._classify, source, name, channel_order, time.perf_counter())

    def _classify(self, source: Source, name: str, channel_order: ChannelOrder | None, asked: float) -> Answer:
        try:
            begun = time.perf_counter()
            scales: list[Scale] = []
            pixels = self.classifier.read(source, channel_order=channel_order, scales=scales)
            decoded = time.perf_counter()
            prediction = self.classifier.classify(pixels)
        except DataError:
            self.metrics.count_unreadable()
            raise
        done = time.perf_counter()
        latency_ms = {"decode": decoded - begun, "network": done - decoded, "whole": done - asked}
        latency_ms = {stage: round(seconds * 1000, 3) for stage, seconds in latency_ms.items()}
        self.metrics.count_prediction(prediction.label, latency_ms)
        if self.collection is not None:
            if isinstance(source, np.ndarray) and channel_order == "bgr":
                source = source[:, :, 2::-1]
            self.collection.consider(source, pixels, prediction, name)
        return Answer(prediction, latency_ms, describe_nearly_black(scales))

    def to_json(self, name: str, answer: Answer, *, heatmap: bool) -> dict[str, Any]:
        """Return the entry of `predict --json` with `latency_ms` and, if there are any, `warnings`.

        If asked for and in the file, there is also `heatmap`.
        """
        entry = to_entry(name, answer.prediction, self.classifier.spec) | {"latency_ms": answer.latency_ms}
        if answer.warning:
            entry["warnings"] = [answer.warning]
        if heatmap and answer.prediction.heatmap is not None:
            entry["heatmap"] = np.round(answer.prediction.heatmap.astype(float), 4).tolist()
        return entry

    def describe(self) -> dict[str, Any]:
        """Return what the page shows of the file and this machine."""
        engine = self.classifier.engine
        return describe_spec(self.classifier.spec) | {
            "threshold": self.classifier.threshold,
            "engine": engine.name,
            "engine_version": engine.version,
            "device": engine.device,
            "threads": engine.threads,
            "selftest": self.selftest,
            "collecting": self.collection is not None,
        }

    def close(self) -> None:
        """Finish the images that wait, then release the classifier."""
        self._thread.shutdown()
        self.classifier.close()


def describe_spec(spec: ModelSpec) -> dict[str, Any]:
    """Return what a page shows of a file, and needs of it to draw the heat map."""
    return {
        "labels": list(spec.labels),
        "height": spec.height,
        "width": spec.width,
        "resize": spec.resize,
        "roi": spec.roi,
        "arch": spec.arch,
        "precision": spec.precision,
        "heatmap": spec.heatmap,
        "metrics": {name: spec.metrics[name] for name in ("accuracy", "images") if name in spec.metrics},
        "created": spec.created,
        "graph_sha256": spec.graph_sha256,
        "threshold": spec.threshold,
    }


def _run_selftest(classifier: Classifier) -> dict[str, Any]:
    """Return {"passed": True, False or None if the file has no golden samples, "text": a sentence}."""
    if not classifier.spec.golden:
        return {"passed": None, "text": "The file has no golden samples, so it was not tested on this machine."}
    try:
        result = run_selftest(classifier)
    except EdgeclsError as error:
        return {"passed": False, "text": str(error)}
    if result.stage:
        return {"passed": False, "text": f"{result.stage} differs by {result.difference:.3g} on {result.sample}"}
    return {"passed": True, "text": f"This machine gives the expected scores for {result.samples} golden samples."}
