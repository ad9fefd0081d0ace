"""Reads the graph of an exported file, whatever its format."""

from __future__ import annotations

from edgecls.errors import ModelFileError
from edgecls.limits import Format
from edgecls.model_file.graph import SCALE_TOLERANCE, SCORE_QUANTIZATIONS, Graph


def read_graph(data: bytes, kind: Format) -> Graph:
    """Return the graph of a TFLite or ONNX file; raise ModelFileError if it is damaged."""
    if kind == "tflite":
        from edgecls.model_file.tflite import read_tflite

        return read_tflite(data)
    from edgecls.model_file.onnx import read_onnx

    return read_onnx(data)


def check_runnable(graph: bytes, kind: Format, scale: float, zero_point: int) -> None:
    """Check what an interpreter would not: that a graph is whole in its file, ends, and means what the contract says.

    Interpreters read other files that a graph names, relative to the current folder, and run loops that have no end.

    Args:
        graph: without the contract.
        kind: of the graph.
        scale: of its input, by the contract; 1 if it is not quantized.
        zero_point: of its input, by the contract; 0 if it is not quantized.

    Raises:
        ModelFileError: it is not, does not or means something else.
    """
    if kind == "onnx":
        from edgecls.model_file.onnx import check_onnx

        check_onnx(graph)
        # ONNX has no quantized inputs: operators in the graph make steps of pixels.
        source, target = (1.0, zero_point), (0.0, 0)
    else:
        from edgecls.model_file.tflite import check_tflite

        source, target = check_tflite(graph)
    # NaN fits nothing.
    if not abs((source[0] or 1) - scale) <= SCALE_TOLERANCE * scale or source[1] != zero_point:
        raise ModelFileError(
            f"the graph's input has scale and zero point {source}, the contract says {(scale, zero_point)}; re-export"
        )
    if target not in SCORE_QUANTIZATIONS:
        raise ModelFileError(f"the graph's scores have scale and zero point {target}, not a softmax's; re-export")
