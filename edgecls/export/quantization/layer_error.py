"""Measures each layer's error in an int8 TFLite file: its output against the float network's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.export.fuse import FusedModel
from edgecls.messages.names import as_cell
from edgecls.output_capture import quietly

# About what 8 bits allow for a signal that fills their range; a layer's loss is counted from there.
BEST_DB = 40.0


@dataclass(frozen=True)
class LayerNoise:
    """The error of one layer's output in the int8 file."""

    layer: str  # name of the Keras layer
    snr_db: float  # power of the float output over power of the error, in decibels; 20 dB is an error of 10 %
    lost_db: float  # by how much it is below the worst layer before it


def measure_layers(fused: FusedModel, graph: bytes, images: NDArray[np.uint8]) -> list[LayerNoise]:
    """Return the signal-to-noise ratio of every layer that the file still has, in the order they run.

    Args:
        fused: the float network.
        graph: its int8 TFLite file.
        images: uint8 (N, S, S, 1), 0..255; a dozen is enough.
    """
    signal: dict[str, float] = {}
    error: dict[str, float] = {}
    for floats, integers in zip(_float_outputs(fused, images), _file_outputs(graph, images), strict=True):
        for layer, value in integers.items():
            if layer in floats and floats[layer].shape == value.shape:
                signal[layer] = signal.get(layer, 0) + float(np.square(floats[layer], dtype=np.float64).sum())
                error[layer] = error.get(layer, 0) + float(np.square(floats[layer] - value, dtype=np.float64).sum())
    rows = []
    before = BEST_DB
    for layer in error:
        snr = float(10 * np.log10(max(signal[layer], 1e-12) / max(error[layer], 1e-12)))
        rows.append(LayerNoise(layer, snr, max(before - snr, 0)))
        before = min(before, snr)
    return rows


def worst_layer(rows: Sequence[LayerNoise]) -> LayerNoise:
    """Return the layer at which most of the signal is lost."""
    return max(rows, key=lambda row: row.lost_db)


def write_layers(rows: Sequence[LayerNoise], path: Path) -> None:
    """Write the table as CSV; the layers of an imported network may have any names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("layer", "snr_db", "lost_db"))
    writer.writerows((as_cell(row.layer), f"{row.snr_db:.1f}", f"{row.lost_db:.1f}") for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _float_outputs(fused: FusedModel, images: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.float32]]]:
    import keras

    core = fused.core
    # Without the last layer: its softmax is an operation of its own in the file.
    layers = core.layers[1:-1]
    probe = keras.Model(core.input, [layer.output for layer in layers])
    for image in images:
        outputs = probe(image[None].astype(np.float32) - fused.pad_gray, training=False)
        yield {layer.name: output.numpy() for layer, output in zip(layers, outputs, strict=True)}


def _file_outputs(graph: bytes, images: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.float32]]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quietly("LiteRT without its delegate"):
        # A delegate would hide the tensors between layers.
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter: Any = Interpreter(
            model_content=graph, experimental_preserve_all_tensors=True, experimental_op_resolver_type=plain
        )
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    tensors = [(layer, detail) for detail in interpreter.get_tensor_details() if (layer := _layer_of(detail))]
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        yield {layer: _dequantize(interpreter.get_tensor(detail["index"]), detail) for layer, detail in tensors}


def _layer_of(detail: dict[str, Any]) -> str:
    """Return the Keras layer whose output a tensor is, or "" for constants.

    The converter names a tensor MODEL/LAYER_1/OPERATION, once for each operation it fused, in any order; a ReLU among
    them runs last.
    """
    fused = detail["name"].split(";")
    parts = next((name for name in fused if "/Relu" in name), fused[0]).split("/")
    is_output = len(parts) == 3 and detail["quantization_parameters"]["scales"].size == 1
    return parts[1].removesuffix("_1") if is_output else ""


def _dequantize(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero_point = detail["quantization"]
    return np.asarray((values.astype(np.float32) - zero_point) * scale, np.float32)
