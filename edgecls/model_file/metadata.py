"""The metadata inside an exported file: what they are, and how they are checked. Imports no interpreter."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ModelFileError
from edgecls.images.decode import RESAMPLE
from edgecls.limits import LEAST_BITS, MAX_IMAGE_SIZE, MOST_BITS, PRECISIONS
from edgecls.model_file.graph import AGAIN, MAX_METADATA_BYTES
from edgecls.preprocessing import RESIZES, Preprocessing, Roi, is_roi

# Files whose pictures are cut or padded have the second one, so that an edgecls that would stretch them refuses them.
STRETCHED_VERSION, FORMAT_VERSION = 1, 2
INPUT_DTYPES = ("uint8", "float32")
# Our metadata have 4 levels; the functions that copy them recurse.
MAX_DEPTH = 20
MAX_GOLDEN = 100
# Those of `metrics` that charts, tables and messages show; a drop may be below 0.
_FRACTIONS = ("accuracy", "float_accuracy", "drop", "agreement", "macro_f1")
_TEXTS = ("verdict", "collapse", "measured_on")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything a device must know to run one exported file."""

    format_version: int = STRETCHED_VERSION  # a reader refuses a higher one; `write.attach_spec` sets it
    labels: tuple[str, ...]  # in the order of the scores
    height: int  # of the input in pixels, 1 to 1024
    width: int
    resample: str  # decode.RESAMPLE
    luma: str  # decode.LUMA
    precision: str  # one of limits.PRECISIONS
    input_dtype: str  # "uint8" or "float32"; either takes raw gray values 0..255
    input_scale: float  # 1.0 if the input is not quantized
    input_zero_point: int  # 0 if the input is not quantized
    arch: str  # name of the network
    weights: dict[str, object]  # of the backbone: source, sha256
    metrics: dict[str, object]  # of this file: `_FRACTIONS` and what else the export measured
    train_sha256: str  # of the training data
    calibration_sha256: str | None  # of the calibration images; None if nothing was calibrated
    versions: dict[str, str]  # package -> version that wrote the file
    created: str  # ISO time
    target: str = ""  # of an int8 file: one of boards.targets; "" if the file suits every machine
    per_tensor: bool = False  # True if each layer of an int8 file has one scale for all its weights
    threshold: float | None = None  # predictions of a lower score are rejected; None rejects none
    good_class: str = ""  # the label that is no defect; "" if the file names none
    good_threshold: float | None = None  # an image of a lower score of that class is a defect; None: the highest counts
    bits: int | None = None  # this and the next two are those of `Preprocessing`
    resize: str = "stretch"
    roi: Roi | None = None
    channels: int = 1  # 3 if the graph takes RGB pixels and computes their gray itself
    heatmap: bool = False  # True if the graph's second output is a class activation map, float32 (1, h, w, C)
    golden: tuple[dict[str, Any], ...] = ()  # real images with their expected scores: see selftest.py
    graph_sha256: str = ""  # of the file's bytes without the metadata; `write.attach_spec` sets it

    def __post_init__(self) -> None:
        """Raise ModelFileError for the first field of a wrong type or out of its range."""
        for names, is_valid, expected in _CHECKS:
            for name in names.split():
                value = getattr(self, name)
                if not is_valid(value):
                    received = repr(value)[:80]
                    raise ModelFileError(f"metadata field {name} must be {expected}; received {received}; re-export")
        if self.good_class and (self.good_class not in self.labels or len(self.labels) < 2):
            raise ModelFileError(f"the good class {self.good_class[:80]!r} is not one of two or more labels; re-export")

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """Return how a picture becomes the input."""
        return Preprocessing(self.bits, self.resize, self.roi)

    def decide(self, scores: NDArray[np.floating[Any]]) -> tuple[int, bool | None]:
        """Return the index of the label of scores (C,), and whether it is a defect; None without a good class.

        The label has the highest score, but if there is a threshold, images below it are the defect of the highest.
        """
        best = int(scores.argmax())
        if not self.good_class:
            return best, None
        good = self.labels.index(self.good_class)
        defect = not is_good(scores, good, self.good_threshold)
        if self.good_threshold is not None:
            others = np.where(np.arange(len(scores)) == good, -1, scores)
            best = int(others.argmax()) if defect else good
        return best, defect


def is_good(scores: NDArray[np.floating[Any]], good: int, threshold: float | None) -> Any:
    """Return whether the class `good` reaches its threshold, or without one is the highest: bool (...) of (..., C)."""
    if threshold is None:
        return scores.argmax(-1) == good
    # As float64: NumPy 2 would round the threshold to float32.
    return scores[..., good].astype(np.float64) >= threshold


def parse_spec(text: bytes) -> ModelSpec:
    """Return the metadata in their JSON; raise ModelFileError if they are damaged or of a newer edgecls."""
    raw = _load_json(text)
    version = raw.get("format_version")
    if _whole(FORMAT_VERSION + 1, math.inf)(version):
        raise ModelFileError(f"metadata of format {str(version)[:20]} were written by a newer edgecls; upgrade edgecls")
    if raw.pop("contract_sha256", None) != checksum(raw):
        raise ModelFileError(f"damaged: the sha256 of the metadata differs; {AGAIN}")
    # A later edgecls may add keys to the same format: they are ignored.
    known = {f.name: raw[f.name] for f in fields(ModelSpec) if f.name in raw}
    if missing := [f.name for f in fields(ModelSpec) if f.name not in raw and f.default is MISSING]:
        raise ModelFileError(f"the metadata lack {', '.join(missing)}; re-export")
    for name in ("labels", "golden", "roi"):
        if isinstance(known.get(name), list):
            known[name] = tuple(known[name])
    return ModelSpec(**known)


def _load_json(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_METADATA_BYTES:
        raise ModelFileError(f"damaged: the metadata have {len(text)} bytes; {AGAIN}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"damaged: the metadata are not JSON ({error}); {AGAIN}") from error
    if not isinstance(raw, dict):
        raise ModelFileError(f"the metadata must be a JSON object; received {type(raw).__name__}; {AGAIN}")
    if not _is_flat(raw, MAX_DEPTH):
        raise ModelFileError(f"the metadata are nested more than {MAX_DEPTH} deep; {AGAIN}")
    return raw


def _is_flat(value: object, depth: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_flat(part, depth - 1) for part in parts)


def checksum(metadata: Mapping[str, object]) -> str:
    """Return the sha256 of the metadata's JSON."""
    # ONNX itself has no checksum that would notice a flipped bit in a label.
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _whole(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _are_metrics(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    numbers, texts = ([value[name] for name in names if name in value] for names in (_FRACTIONS, _TEXTS))
    in_range = (type(each) in (int, float) and -1 <= each <= 1 for each in numbers)
    return all(in_range) and all(isinstance(each, str) for each in texts)


def _are_labels(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(_is_line, value)) and len(set(value)) == len(value)


# One line, because labels.txt has one label a line; no control characters, because terminals obey them; no surrogates
# (from folder names that are not UTF-8). Training refuses such class folders.
_is_line = _text("[^\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,2000}")
_is_sha256 = _text("[0-9a-f]{64}")
_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("format_version", _whole(STRETCHED_VERSION, FORMAT_VERSION), f"{STRETCHED_VERSION} or {FORMAT_VERSION}"),
    ("labels", _are_labels, "unique names of one line each, 1 to 2000 characters and none that control a terminal"),
    ("height width", _whole(1, MAX_IMAGE_SIZE), f"a whole number from 1 to {MAX_IMAGE_SIZE}"),
    # Files of an older edgecls, which resized in another way, are refused: their scores would differ.
    ("resample", lambda v: v == RESAMPLE, repr(RESAMPLE)),
    ("luma arch created", _is_line, "a line of text"),
    ("precision", lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    ("input_dtype", lambda v: v in INPUT_DTYPES, f"one of {', '.join(INPUT_DTYPES)}"),
    ("bits", lambda v: v is None or _whole(LEAST_BITS, MOST_BITS)(v), f"{LEAST_BITS} to {MOST_BITS} or null"),
    ("channels", lambda v: _whole(1, 3)(v) and v != 2, "1 or 3"),
    ("resize", lambda v: v in RESIZES, f"one of {', '.join(RESIZES)} (a newer edgecls may know it: upgrade)"),
    ("roi", lambda v: v is None or is_roi(v), "left, top, width and height in pixels, or null"),
    ("input_scale", lambda v: isinstance(v, float) and 0 < v < math.inf, "a finite float above 0"),
    ("input_zero_point", _whole(-128, 255), "a whole number from -128 to 255"),
    ("heatmap per_tensor", lambda v: isinstance(v, bool), "true or false"),
    ("weights", lambda v: isinstance(v, dict), "an object"),
    ("metrics", _are_metrics, f"an object: {', '.join(_FRACTIONS)} from -1 to 1, {', '.join(_TEXTS)} as texts"),
    ("target", lambda v: v == "" or _is_line(v), "a line of text"),
    ("good_class", lambda v: isinstance(v, str), "text"),
    (
        "threshold good_threshold",
        lambda v: v is None or (isinstance(v, float) and 0 <= v <= 1),
        "a float from 0 to 1 or null",
    ),
    (
        "golden",
        lambda v: isinstance(v, tuple) and len(v) <= MAX_GOLDEN and all(isinstance(each, dict) for each in v),
        f"a list of at most {MAX_GOLDEN} objects",
    ),
    ("versions", lambda v: isinstance(v, dict) and all(map(_is_line, v.values())), "an object of texts"),
    ("train_sha256", _is_sha256, "64 hexadecimal digits"),
    ("calibration_sha256", lambda v: v is None or _is_sha256(v), "64 hexadecimal digits or null"),
    ("graph_sha256", lambda v: v == "" or _is_sha256(v), "64 hexadecimal digits"),
)


def label_lines(labels: tuple[str, ...]) -> bytes:
    """Return labels.txt: one label a line."""
    return "".join(f"{label}\n" for label in labels).encode()
