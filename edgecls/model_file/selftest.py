"""Golden samples: real images inside an exported file, with the results that every stage must give for them.

A machine whose JPEG decoder, resize or kernels differ would give other predictions without an error. `run_selftest`
names the first stage that differs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import ModelFileError
from edgecls.images import pillow, tiff
from edgecls.images.archive import read_bytes
from edgecls.images.decode import PLAIN, decode_gray, load_gray
from edgecls.images.opening import TIFF_MAGICS
from edgecls.limits import MAX_IMAGE_SIZE
from edgecls.model_file.metadata import ModelSpec
from edgecls.preprocessing import Preprocessing

if TYPE_CHECKING:
    from edgecls.runtime.classifier import Classifier

# For all samples of a file, as text: int8 files must stay small.
MAX_GOLDEN_CHARACTERS = 120_000
MAX_SAMPLES = 4
NO_GOLDEN = "this file has no golden samples; export it again, with --golden"
# Larger image files are replaced by a smaller copy.
MAX_IMAGE_BYTES = 16_000
# fp32 and fp16 files compute in fp32, whose sums depend on the vector width. int8: kernels round differently on each
# processor, which moved scores of 205 photographs by up to 0.14 between x86 and ARM and changed 3 labels
# (benchmarks/results/emulated-pi.json); broken kernels differ by more.
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-3, "int8": 0.15}


@dataclass(frozen=True)
class SelfTest:
    """The result of a self-test."""

    samples: int  # number of golden images
    stage: str  # the first stage that differs: "decode", "resize" or "engine"; "" if none does
    sample: str  # the image it was seen on
    difference: float  # largest difference: gray values 0..255 for decode and resize, else of scores 0..1


def make_golden(
    paths: Iterable[Path], height: int, width: int, preprocessing: Preprocessing = PLAIN
) -> tuple[dict[str, Any], ...]:
    """Return golden samples without scores, of as many of `paths` as fit into a file.

    They are images of the region of interest alone, because what is around it may be large.

    Args:
        paths: image files.
        height: of the network's input in pixels.
        width: of the network's input in pixels.
        preprocessing: of `load_gray`.
    """
    inside, samples = replace(preprocessing, roi=None), []  # type: Preprocessing, list[dict[str, Any]]
    room = MAX_GOLDEN_CHARACTERS
    for path in paths:
        content = _small_copy(path, height, width, preprocessing)
        sample = {
            "name": path.name,
            "file": base64.b85encode(content).decode(),
            "gray_sha256": _gray_sha256(content, preprocessing.bits),
            "pixels": base64.b85encode(_to_png(load_gray(content, height, width, inside))).decode(),
        }
        room -= len(sample["file"]) + len(sample["pixels"])
        if samples and room < 0:
            break
        samples.append(sample)
        if len(samples) == MAX_SAMPLES:
            break
    return tuple(samples)


def add_scores(samples: tuple[dict[str, Any], ...], classifier: Classifier) -> tuple[dict[str, Any], ...]:
    """Return the samples with the scores of this classifier."""
    return tuple(sample | {"scores": [float(s) for s in _scores(classifier, _pixels(sample))]} for sample in samples)


def damaged_sample(error: Exception) -> ModelFileError:
    """Return the error to raise for a golden sample that cannot be read."""
    return ModelFileError(f"a golden sample is damaged ({error!r}); export the file again")


def golden_images(spec: ModelSpec) -> NDArray[np.uint8]:
    """Return the pixels of a file's golden samples, uint8 (N, H, W, 1), 0..255.

    Raises:
        ModelFileError: it has none, or they are damaged.
    """
    if not spec.golden:
        raise ModelFileError(NO_GOLDEN)
    try:
        return np.stack([_pixels(sample) for sample in spec.golden])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise damaged_sample(error) from error


def run_selftest(classifier: Classifier) -> SelfTest:
    """Compare this machine's results with those of the golden samples in the classifier's file.

    Raises:
        ModelFileError: the file has no golden samples, or they are damaged.
    """
    spec = classifier.spec
    if not spec.golden:
        raise ModelFileError(NO_GOLDEN)
    for sample in spec.golden:
        try:
            content, expected = base64.b85decode(sample["file"]), _pixels(sample)
            decoded_same = _gray_sha256(content, spec.bits) == sample["gray_sha256"]
            scores = np.array(sample["scores"], np.float32)
            name = str(sample["name"])
            if expected.shape != (spec.height, spec.width, 1) or scores.shape != (len(spec.labels),):
                raise ValueError(f"pixels {expected.shape} and scores {scores.shape} do not fit the network")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise damaged_sample(error) from error
        pixels = load_gray(content, spec.height, spec.width, replace(spec.preprocessing, roi=None))
        off = int(np.abs(pixels.astype(int) - expected).max())
        if not decoded_same or off:
            return SelfTest(len(spec.golden), "resize" if decoded_same else "decode", name, off)
        shift = float(np.abs(_scores(classifier, expected) - scores).max())
        # Written so that NaN fails.
        if not shift <= TOLERANCES[spec.precision]:
            return SelfTest(len(spec.golden), "engine", name, shift)
    return SelfTest(len(spec.golden), "", "", 0.0)


def _scores(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    # `Classifier.scores` would refuse NaN, which is a result of this test.
    return classifier.engine.run(np.ascontiguousarray(pixels[np.newaxis]))


def _small_copy(path: Path, height: int, width: int, preprocessing: Preprocessing) -> bytes:
    content = read_bytes(path)
    private = _has_metadata(content) or preprocessing.roi is not None
    if len(content) <= MAX_IMAGE_BYTES and not private:
        return content
    # 1.5 times the input size, so that it still has to be resized, and wider if it has to be cropped or padded too.
    wider = 3 if preprocessing.resize == "stretch" else 4
    larger = [min(side * factor // 2, MAX_IMAGE_SIZE) for side, factor in ((height, 3), (width, wider))]
    copy = Image.fromarray(load_gray(content, larger[0], larger[1], replace(preprocessing, resize="stretch"))[:, :, 0])
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=75)
    return buffer.getvalue() if private else min(content, buffer.getvalue(), key=len)


def _has_metadata(content: bytes) -> bool:
    """Return whether an image file may tell who took it, when and where, which must not go into an exported file."""
    if content.startswith(pillow.PNG_SIGNATURE):
        return pillow.png_has_metadata(content)
    if content[:4] in TIFF_MAGICS:
        return tiff.has_metadata(content)
    if content.startswith(b"RIFF"):
        return b"EXIF" in content or b"XMP " in content
    if content.startswith(b"P"):
        return re.match(rb"P[1-6](\s+\d+)*\s*#", content) is not None
    # JPEG: EXIF, XMP and IPTC.
    return any(mark in content for mark in (b"Exif\0", b"http://ns.adobe.com/xap/", b"Photoshop 3.0"))


def _gray_sha256(content: bytes, bits: int | None) -> str:
    gray = decode_gray(content, bits)
    return hashlib.sha256(f"{gray.size}".encode() + gray.tobytes()).hexdigest()


def _to_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pixels(sample: dict[str, Any]) -> NDArray[np.uint8]:
    return np.array(decode_gray(base64.b85decode(sample["pixels"])), np.uint8)[:, :, np.newaxis]
