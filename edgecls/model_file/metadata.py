"""The metadata inside an exported file: what they are, and how they are written and read. Imports no interpreter."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgecls.errors import ModelFileError
from edgecls.images.decode import RESAMPLE
from edgecls.limits import LEAST_BITS, MAX_IMAGE_SIZE, MOST_BITS, PRECISIONS, Format
from edgecls.model_file import container
from edgecls.model_file.container import AGAIN, JSON, LABELS, MAX_METADATA_BYTES, detect_kind

FORMAT_VERSION = 1
EXPORTED = "pass a file that 'edgecls export' wrote"
INPUT_DTYPES = ("uint8", "float32")
# Our metadata have 4 levels; the functions that copy them recurse.
MAX_DEPTH = 20
MAX_GOLDEN = 100
# Those of `metrics` that charts, tables and messages show; a drop may be below 0.
_FRACTIONS = ("accuracy", "float_accuracy", "drop", "agreement", "macro_f1")
_TEXTS = ("verdict", "collapse", "measured_on")
# Neither a flatbuffer nor a protobuf message can be larger.
MAX_FILE_BYTES = 2**31


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything a device must know to run one exported file."""

    format_version: int = FORMAT_VERSION  # a reader refuses a higher one
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
    threshold: float | None = None  # predictions of a lower score are rejected; None rejects none
    bits: int | None = None  # of decode.load_gray
    golden: tuple[dict[str, Any], ...] = ()  # real images with their expected scores: see selftest.py
    graph_sha256: str = ""  # of the file's bytes without the metadata; `attach_spec` sets it

    def __post_init__(self) -> None:
        """Raise ModelFileError for the first field of a wrong type or out of its range."""
        for names, is_valid, expected in _CHECKS:
            for name in names.split():
                value = getattr(self, name)
                if not is_valid(value):
                    received = repr(value)[:80]
                    raise ModelFileError(f"metadata field {name} must be {expected}; received {received}; re-export")


def attach_spec(graph: bytes, spec: ModelSpec, kind: Format) -> bytes:
    """Return the file's bytes: the graph with the metadata, whose `graph_sha256` is set here.

    Metadata that `graph` already carries are replaced. The same input gives the same bytes.

    Raises:
        ModelFileError: `graph` has another format, or the metadata are not JSON or too large.
    """
    if (found := detect_kind(graph)) != kind:
        raise ModelFileError(f"the graph is {found}, not {kind}; pass kind={found!r}")
    bare, _ = container.split(graph, kind)
    try:
        # Converted to JSON and back, so that the checksum is that of what a reader gets.
        metadata = json.loads(json.dumps(asdict(replace(spec, graph_sha256=_sha256(bare))), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"the metadata cannot be written as JSON ({error}); use plain, finite values") from error
    metadata["contract_sha256"] = _checksum(metadata)
    text = json.dumps(metadata, ensure_ascii=False, indent=1).encode()
    if len(text) > MAX_METADATA_BYTES:
        raise ModelFileError(f"the metadata have {len(text)} bytes, at most {MAX_METADATA_BYTES} fit; shorten metrics")
    return container.attach(bare, text, _lines(spec.labels), kind)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an exported file.

    Raises:
        ModelFileError: not a readable file, or larger than any model can be.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError(f"a model file's path must be a str or a Path; received {path!r}; {EXPORTED}")
    try:
        # Pipes and devices have no size that could be checked before reading.
        if not Path(path).is_file():
            raise ModelFileError(_explain(path) or f"no such model file: {os.fspath(path)!r}; {EXPORTED}")
        if (size := Path(path).stat().st_size) > MAX_FILE_BYTES:
            raise ModelFileError(f"{path} has {size} bytes; no model has more than {MAX_FILE_BYTES}")
        data = Path(path).read_bytes()
        try:
            detect_kind(data)
        except ModelFileError as error:
            raise ModelFileError(_explain(path) or f"{path} is {error}") from error
        return data
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error}; check its permissions") from error


def _explain(path: str | os.PathLike[str]) -> str:
    # Imported late: only needed for the error.
    from edgecls.messages.path_kinds import explain_model

    return explain_model(Path(path)) if Path(path).exists() else ""


def split_file(data: bytes) -> tuple[bytes, ModelSpec]:
    """Return the graph without the metadata, and the metadata, after checking the sha256 of both.

    Raises:
        ModelFileError: not a TFLite or ONNX file, no metadata, damaged, or written by a newer edgecls.
    """
    kind = detect_kind(data)
    graph, parts = container.split(data, kind)
    if JSON not in parts:
        raise ModelFileError(f"this {kind} file has no edgecls metadata; export it with 'edgecls export'")
    spec = _parse(parts[JSON])
    if parts.get(LABELS, _lines(spec.labels)) != _lines(spec.labels):
        raise ModelFileError(f"damaged: {LABELS} and {JSON} disagree; {AGAIN}")
    if (found := _sha256(graph)) != spec.graph_sha256:
        raise ModelFileError(f"damaged: its graph's sha256 is {found}, the metadata say {spec.graph_sha256}; {AGAIN}")
    return graph, spec


def _parse(text: bytes) -> ModelSpec:
    raw = _load_json(text)
    version = raw.get("format_version")
    if _whole(FORMAT_VERSION + 1, math.inf)(version):
        raise ModelFileError(f"metadata of format {str(version)[:20]} were written by a newer edgecls; upgrade edgecls")
    if raw.pop("contract_sha256", None) != _checksum(raw):
        raise ModelFileError(f"damaged: the sha256 of the metadata differs; {AGAIN}")
    # A later edgecls may add keys to the same format: they are ignored.
    known = {f.name: raw[f.name] for f in fields(ModelSpec) if f.name in raw}
    if missing := [f.name for f in fields(ModelSpec) if f.name not in raw and f.default is MISSING]:
        raise ModelFileError(f"the metadata lack {', '.join(missing)}; re-export")
    for name in ("labels", "golden"):
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


def _checksum(metadata: Mapping[str, object]) -> str:
    # ONNX itself has no checksum that would notice a flipped bit in a label.
    return _sha256(json.dumps(metadata, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
    ("format_version", _whole(FORMAT_VERSION, FORMAT_VERSION), str(FORMAT_VERSION)),
    ("labels", _are_labels, "unique names of one line each, 1 to 2000 characters and none that control a terminal"),
    ("height width", _whole(1, MAX_IMAGE_SIZE), f"a whole number from 1 to {MAX_IMAGE_SIZE}"),
    # Files of an older edgecls, which resized in another way, are refused: their scores would differ.
    ("resample", lambda v: v == RESAMPLE, repr(RESAMPLE)),
    ("luma arch created", _is_line, "a line of text"),
    ("precision", lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    ("input_dtype", lambda v: v in INPUT_DTYPES, f"one of {', '.join(INPUT_DTYPES)}"),
    ("bits", lambda v: v is None or _whole(LEAST_BITS, MOST_BITS)(v), f"{LEAST_BITS} to {MOST_BITS} or null"),
    ("input_scale", lambda v: isinstance(v, float) and 0 < v < math.inf, "a finite float above 0"),
    ("input_zero_point", _whole(-128, 255), "a whole number from -128 to 255"),
    ("weights", lambda v: isinstance(v, dict), "an object"),
    (
        "metrics",
        _are_metrics,
        f"an object with {', '.join(_FRACTIONS)} from -1 to 1 and {', '.join(_TEXTS)} as texts",
    ),
    ("target", lambda v: v == "" or _is_line(v), "a line of text"),
    ("threshold", lambda v: v is None or (isinstance(v, float) and 0 <= v <= 1), "a float from 0 to 1 or null"),
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


def _lines(labels: tuple[str, ...]) -> bytes:
    return "".join(f"{label}\n" for label in labels).encode()
