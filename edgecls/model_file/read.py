"""Reads an exported file: its format, its graph and its metadata."""

from __future__ import annotations

import os
from typing import NamedTuple

from edgecls.errors import ModelFileError
from edgecls.limits import Format
from edgecls.model_file.container import detect_kind
from edgecls.model_file.graph import SCALE_TOLERANCE, SCORE_QUANTIZATIONS, Graph
from edgecls.model_file.metadata import ModelSpec, read_bytes, split_file


class ModelFile(NamedTuple):
    """An exported file whose checksums were verified; the graph is the file without the metadata."""

    format: Format
    graph: bytes
    spec: ModelSpec


def read_model_file(source: str | os.PathLike[str] | bytes) -> ModelFile:
    """Return what an exported file holds.

    Args:
        source: its path, or its bytes.

    Raises:
        ModelFileError: not a readable file, not TFLite or ONNX, damaged, without metadata, or of a newer edgecls.
    """
    data = source if isinstance(source, bytes) else read_bytes(source)
    try:
        return ModelFile(detect_kind(data), *split_file(data))
    except ModelFileError as error:
        if isinstance(source, bytes):
            raise
        raise ModelFileError(f"{os.fspath(source)}: {error}") from error


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Return the metadata of an exported file; raise as `read_model_file` does."""
    return read_model_file(path).spec


def read_graph(graph: bytes, format: Format) -> Graph:
    """Return the operations and tensors of a TFLite or ONNX graph; raise ModelFileError if it is damaged."""
    # Each format's reader is imported only for its own files.
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
