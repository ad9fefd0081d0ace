"""Reads an exported file: its format, its graph and its metadata, whose checksums are verified."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from edgecls.errors import ModelFileError
from edgecls.limits import Format
from edgecls.model_file.graph import AGAIN, SCALE_TOLERANCE, SCORE_QUANTIZATIONS, Graph
from edgecls.model_file.metadata import ModelSpec, label_lines, parse_spec

EXPORTED = "pass a file that 'edgecls export' wrote"
# Neither a flatbuffer nor a protobuf message can be larger.
MAX_FILE_BYTES = 2**31


class ModelFile(NamedTuple):
    """An exported file whose checksums were verified; the graph is the file without the metadata."""

    format: Format
    graph: bytes
    spec: ModelSpec


def read_model_file(source: str | os.PathLike[str] | bytes, *, name: str | os.PathLike[str] = "") -> ModelFile:
    """Return what an exported file holds.

    Args:
        source: its path, or its bytes.
        name: of the bytes, for errors; "" for none.

    Raises:
        ModelFileError: not a readable file, not TFLite or ONNX, damaged, without metadata, or of a newer edgecls.
    """
    if not isinstance(source, bytes):
        return read_model_file(read_bytes(source), name=source)
    try:
        return _parse(source)
    except ModelFileError as error:
        if not name:
            raise
        raise ModelFileError(f"{os.fspath(name)}: {error}") from error


def _parse(data: bytes) -> ModelFile:
    graph, text, labels = split(data, kind := detect_format(data))
    if text is None:
        # TFLite files have theirs at the end.
        cut = ", or copy it again if it is cut off" if kind == "tflite" else ""
        raise ModelFileError(f"this {kind} file has no edgecls metadata; export it with 'edgecls export'{cut}")
    spec = parse_spec(text)
    if labels not in (None, label_lines(spec.labels)):
        raise ModelFileError(f"damaged: labels.txt and model.json disagree; {AGAIN}")
    if (found := hashlib.sha256(graph).hexdigest()) != spec.graph_sha256:
        raise ModelFileError(f"damaged: its graph's sha256 is {found}, the metadata say {spec.graph_sha256}; {AGAIN}")
    return ModelFile(kind, graph, spec)


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Return the metadata of an exported file; raise as `read_model_file` does."""
    return read_model_file(path).spec


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
            detect_format(data)
        except ModelFileError as error:
            raise ModelFileError(_explain(path) or f"{path} is {error}") from error
        return data
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error}; check its permissions") from error


def _explain(path: str | os.PathLike[str]) -> str:
    # Imported late: only needed for the error.
    from edgecls.messages.path_kinds import explain_model

    return explain_model(Path(path)) if Path(path).exists() else ""


def detect_format(data: bytes) -> Format:
    """Return "tflite" or "onnx", judged by the bytes and not the file's name; raise ModelFileError for neither."""
    if data[4:8] == b"TFL3":
        return "tflite"
    # Here and below, each format's reader is imported only for its own files.
    from edgecls.model_file.onnx import has_graph

    reason = EXPORTED
    try:
        if has_graph(data):
            return "onnx"
    except ModelFileError as error:
        reason = str(error)
    raise ModelFileError(f"not a TFLite or ONNX file (first bytes {data[:8]!r}); {reason}")


def split(data: bytes, format: Format) -> tuple[bytes, bytes | None, bytes | None]:
    """Return the graph without the metadata, their JSON and the labels beside it; None if there are none."""
    if format == "tflite":
        from edgecls.model_file.tflite import split_tflite

        return split_tflite(data)
    from edgecls.model_file.onnx import split_onnx

    return split_onnx(data)


def read_graph(graph: bytes, format: Format) -> Graph:
    """Return the operations and tensors of a TFLite or ONNX graph; raise ModelFileError if it is damaged."""
    if format == "tflite":
        from edgecls.model_file.tflite import read_tflite

        return read_tflite(graph)
    from edgecls.model_file.onnx import read_onnx

    return read_onnx(graph)


def check_runnable(model: ModelFile) -> None:
    """Check what interpreters do not: that a graph is complete, terminates, and is quantized as its metadata says.

    Interpreters read other files that a graph names, relative to the current folder, and run endless loops.

    Raises:
        ModelFileError: a check failed.
    """
    expected = (model.spec.input_scale, model.spec.input_zero_point)
    if model.format == "onnx":
        from edgecls.model_file.onnx import check_onnx

        check_onnx(model.graph)
        # ONNX has no quantized inputs: operators in the graph quantize the pixels.
        source, target = (1.0, expected[1]), (0.0, 0)
    else:
        from edgecls.model_file.tflite import check_tflite

        source, target = check_tflite(model.graph)
    # Written so that NaN fails.
    if not abs((source[0] or 1) - expected[0]) <= SCALE_TOLERANCE * expected[0] or source[1] != expected[1]:
        raise ModelFileError(
            f"the graph's input has scale and zero point {source}, the metadata says {expected}; re-export"
        )
    if target not in SCORE_QUANTIZATIONS:
        raise ModelFileError(f"the graph's scores have scale and zero point {target}, not a softmax's; re-export")
