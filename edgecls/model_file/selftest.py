"""Golden samples: real images inside an exported file, with what each stage must make of them on any machine.

A board whose JPEG decoder, resize or kernels differ gives other answers without an error. `run_selftest` says so, and
names the first stage that differs. Imports no interpreter and no TensorFlow.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import ModelFileError
from edgecls.images.decode import decode_gray, load_gray
from edgecls.limits import MAX_IMAGE_SIZE

if TYPE_CHECKING:
    from edgecls.runtime.classifier import Classifier

# Of all samples of a file together, as text: int8 files stay small.
MAX_GOLDEN_CHARACTERS = 120_000
MAX_SAMPLES = 4
# A larger image file is replaced by a smaller copy of the picture.
MAX_IMAGE_BYTES = 16_000
# fp32: other vector widths add in another order; fp16 files compute in fp32, too. int8: each engine's kernels round in
# their own way on each processor, which moved scores of 205 photographs by up to 0.14 between x86 and ARM
# (benchmarks/results/emulated-pi.json) and changed 3 labels; what is broken is further off.
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-3, "int8": 0.15}


@dataclass(frozen=True)
class SelfTest:
    """What a self-test found.

    Attributes:
        samples: how many golden images were tried.
        stage: the first stage that differs: "decode", "resize" or "engine"; "" if none does.
        sample: the image it was seen on.
        difference: largest difference: gray values 0..255 for decode and resize, else of scores 0..1.
    """

    samples: int
    stage: str
    sample: str
    difference: float


def make_golden(paths: Iterable[Path], height: int, width: int, bits: int | None = None) -> tuple[dict[str, Any], ...]:
    """Return golden samples without scores, as many of `paths` as fit into a file.

    Args:
        paths: image files that `image.load_gray` reads.
        height: of the network's input in pixels.
        width: of the network's input in pixels.
        bits: of `image.load_gray`.
    """
    samples: list[dict[str, Any]] = []
    room = MAX_GOLDEN_CHARACTERS
    for path in paths:
        content = _small_copy(path, height, width, bits)
        sample = {
            "name": path.name,
            "file": base64.b85encode(content).decode(),
            "gray_sha256": _gray_sha256(content, bits),
            "pixels": base64.b85encode(_to_png(load_gray(content, height, width, bits))).decode(),
        }
        room -= len(sample["file"]) + len(sample["pixels"])
        if samples and room < 0:
            break
        samples.append(sample)
        if len(samples) == MAX_SAMPLES:
            break
    return tuple(samples)


def add_scores(samples: tuple[dict[str, Any], ...], classifier: Classifier) -> tuple[dict[str, Any], ...]:
    """Return the samples with the scores that this very file gives them here."""
    return tuple(sample | {"scores": [float(s) for s in _scores(classifier, _pixels(sample))]} for sample in samples)


def run_selftest(classifier: Classifier) -> SelfTest:
    """Return how this machine does on the golden samples of the classifier's file.

    Raises:
        ModelFileError: the file holds no golden samples, or they cannot be read.
    """
    spec = classifier.spec
    if not spec.golden:
        raise ModelFileError("this file holds no golden samples; export it again with this edgecls")
    for sample in spec.golden:
        try:
            content, expected = base64.b85decode(sample["file"]), _pixels(sample)
            decoded_same = _gray_sha256(content, spec.bits) == sample["gray_sha256"]
            scores = np.array(sample["scores"], np.float32)
            name = str(sample["name"])
            if expected.shape != (spec.height, spec.width, 1) or scores.shape != (len(spec.labels),):
                raise ValueError(f"pixels {expected.shape} and scores {scores.shape} do not fit the network")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ModelFileError(f"a golden sample is damaged ({error!r}); export the file again") from error
        pixels = load_gray(content, spec.height, spec.width, spec.bits)
        off = int(np.abs(pixels.astype(int) - expected).max())
        if not decoded_same or off:
            return SelfTest(len(spec.golden), "resize" if decoded_same else "decode", name, off)
        shift = float(np.abs(_scores(classifier, expected) - scores).max())
        # Not the other way round: NaN scores, too, are outside.
        if not shift <= TOLERANCES[spec.precision]:
            return SelfTest(len(spec.golden), "engine", name, shift)
    return SelfTest(len(spec.golden), "", "", 0.0)


def _scores(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = classifier.scores(pixels[np.newaxis])[0]
    return scores


def _small_copy(path: Path, height: int, width: int, bits: int | None) -> bytes:
    content = path.read_bytes()
    # EXIF may tell where a photograph was taken, which is nobody's business on a board.
    private = b"Exif\0" in content
    if len(content) <= MAX_IMAGE_BYTES and not private:
        return content
    # Half as large again as the input: it still has to be decoded and resized like any photograph.
    larger = [min(side * 3 // 2, MAX_IMAGE_SIZE) for side in (height, width)]
    copy = Image.fromarray(load_gray(content, larger[0], larger[1], bits)[:, :, 0])
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=75)
    return buffer.getvalue() if private else min(content, buffer.getvalue(), key=len)


def _gray_sha256(content: bytes, bits: int | None) -> str:
    gray = decode_gray(content, bits)
    return hashlib.sha256(f"{gray.size}".encode() + gray.tobytes()).hexdigest()


def _to_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pixels(sample: dict[str, Any]) -> NDArray[np.uint8]:
    return np.array(decode_gray(base64.b85decode(sample["pixels"])), np.uint8)[:, :, np.newaxis]
