"""Runs a file of `--input rgb` in MediaPipe's ImageClassifier, where that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.export.gate import Comparison
from edgecls.images.dataset import Split
from edgecls.images.decode import decode_part
from edgecls.messages.numbers import percent
from edgecls.model_file.metadata import ModelSpec
from edgecls.output_capture import quietly

NOT_INSTALLED = (
    "MediaPipe is not installed, so the files were not run in it: pip install mediapipe, and export again to measure it"
)
# Kernels of int8 differ between versions of LiteRT, of which MediaPipe has its own.
LEAST_AGREEMENT = {"fp32": 1.0, "fp16": 1.0, "int8": 0.99}


@dataclass(frozen=True)
class InMediaPipe:
    """What MediaPipe says of the held-out images, with one file.

    Attributes:
        accuracy: fraction of images that it labels correctly, 0..1; edgecls decoded and resized them.
        agreement: fraction of these to which LiteRT gives the same label, 0..1.
        accuracy_of_files: of the images in their own size, which MediaPipe resizes without averaging.
    """

    accuracy: float
    agreement: float
    accuracy_of_files: float


def is_installed() -> bool:
    """Return whether MediaPipe can be imported."""
    return importlib.util.find_spec("mediapipe") is not None


def run_in_mediapipe(
    content: bytes,
    spec: ModelSpec,
    root: Path,
    images: Split,
    scores: NDArray[np.float32],
    progress: Callable[[int, int], None],
) -> InMediaPipe:
    """Return what MediaPipe says of images with a whole TFLite file.

    Args:
        content: of the file.
        spec: its metadata.
        root: the folder that the images' paths are relative to.
        images: the images, which are labeled.
        scores: float32 (N, C), what LiteRT gives the same file.
        progress: called for each image.

    Raises:
        ExportError: MediaPipe cannot load the file, or not run it.
    """
    total = len(images.labels)

    def whole() -> Iterable[NDArray[np.uint8]]:
        for done, path in enumerate(images.paths, 1):
            yield np.asarray(decode_part(root / path, spec.height, spec.width, spec.preprocessing))
            progress(total + done, 2 * total)

    def resized() -> Iterable[NDArray[np.uint8]]:
        for done, image in enumerate(images.images, 1):
            yield np.asarray(image[:, :, 0])
            progress(done, 2 * total)

    labels = _classify(content, spec.labels, resized())
    return InMediaPipe(
        accuracy=float((labels == images.labels).mean()),
        agreement=float((labels == scores.argmax(1)).mean()),
        accuracy_of_files=float((_classify(content, spec.labels, whole()) == images.labels).mean()),
    )


def _classify(content: bytes, names: tuple[str, ...], images: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Return the index of MediaPipe's first label for each gray image, uint8 (H, W); -1 for a name of no class."""
    with quietly("loading the file in MediaPipe"):
        import mediapipe
        from mediapipe.tasks import python
        from mediapipe.tasks.python import vision

        options = vision.ImageClassifierOptions(base_options=python.BaseOptions(model_asset_buffer=content))
        classifier = vision.ImageClassifier.create_from_options(options)
    found = []
    with classifier:
        for gray in images:
            with quietly("running the file in MediaPipe"):
                image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.repeat(gray[:, :, np.newaxis], 3, -1))
                name = classifier.classify(image).classifications[0].categories[0].category_name
            found.append(names.index(name) if name in names else -1)
    return np.array(found, np.int64)


def judge(comparison: Comparison, found: InMediaPipe, precision: str) -> Comparison:
    """Return `comparison`, which fails if MediaPipe labels the images otherwise than LiteRT does."""
    if found.agreement >= LEAST_AGREEMENT[precision] or not comparison.passed:
        return comparison
    collapse = f"gives {percent(found.agreement)} of the images the same label in MediaPipe as in LiteRT"
    return replace(comparison, collapse=collapse, passed=False, verdict=f"failed: the file {collapse}")
