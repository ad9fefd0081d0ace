"""What foreign quantizers make of a run's network, plain and prepared.

    python benchmarks/prepared_network.py RUN [--name magnetic-tile]

The plain network is the trained one with its BatchNorms folded. The prepared ones are what `edgecls export --prepared`
writes, for quantizers with one scale per channel and, with `--per-tensor`, with one per layer. All are float ONNX and
Keras networks, quantized by tools that know nothing of edgecls, on the same calibration images, and scored on the
held-out images. Results go to benchmarks/results/prepared-network-NAME.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from record import write_record

from edgecls.config import ExportConfig
from edgecls.export import onnx
from edgecls.export.calibration import centered_inputs
from edgecls.export.fuse import FusedModel
from edgecls.export.job import Job, open_job
from edgecls.export.npu import for_npu
from edgecls.messages.numbers import percent
from edgecls.output_capture import quietly
from edgecls.progress import silent

Array = NDArray[Any]
Scorer = Callable[[Array], Array]
# Accuracies do not depend on what else the machine does, and no times are measured.
VALID: dict[str, Any] = {"valid": True, "causes": [], "warnings": []}
FORMS = ("plain", "prepared", "prepared, --per-tensor")


def build(job: Job, per_tensor: Job) -> dict[str, FusedModel]:
    """Return the networks by form."""
    networks = (job.int8_fused, job.prepared, per_tensor.prepared)
    return {form: for_npu(network) for form, network in zip(FORMS, networks, strict=True)}


class _Reader:
    """Gives calibration images, float32 (1, 1, S, S), as a CalibrationDataReader does."""

    def __init__(self, images: list[Array]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        return {onnx.INPUT: image} if (image := next(self._images, None)) is not None else None


def by_onnxruntime(fused: FusedModel, calibration: Array, *, per_channel: bool) -> Scorer:
    """Return the network as onnxruntime's quantize_static writes it."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        source, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(onnx.to_float_nchw(fused))
        quantize_static(
            source,
            written,
            _Reader(_nchw(fused, calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _run_onnx(written.read_bytes(), fused)


def by_tensorflow(fused: FusedModel, calibration: Array, *, per_channel: bool) -> Scorer:
    """Return the network as TensorFlow's converter writes it, all of it int8."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_keras_model(fused.core)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in centered_inputs(calibration, fused.pad_gray))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter._experimental_disable_per_channel = not per_channel
    interpreter = Interpreter(model_content=bytes(converter.convert()))
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def score(images: Array) -> Array:
        rows = []
        for image in images:
            interpreter.set_tensor(source, image[None].astype(np.float32) - np.float32(fused.pad_gray))
            interpreter.invoke()
            rows.append(interpreter.get_tensor(target)[0])
        return np.stack(rows)

    return score


def by_nncf(fused: FusedModel, calibration: Array) -> Scorer:
    """Return the network as OpenVINO's NNCF quantizes it, one scale per channel, with its own bias correction."""
    import nncf
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        source.write_bytes(onnx.to_float_nchw(fused))
        network = openvino.Core().read_model(source)
    images = _nchw(fused, calibration)
    compiled = openvino.compile_model(nncf.quantize(network, nncf.Dataset(images), subset_size=len(images)), "CPU")

    def score(images: Array) -> Array:
        return np.concatenate([compiled(image[None])[0] for image in _center(fused, images)])

    return score


QUANTIZERS: dict[str, Callable[[FusedModel, Array], Scorer]] = {
    "onnxruntime, per channel": lambda fused, images: by_onnxruntime(fused, images, per_channel=True),
    "onnxruntime, per layer": lambda fused, images: by_onnxruntime(fused, images, per_channel=False),
    "TensorFlow, per channel": lambda fused, images: by_tensorflow(fused, images, per_channel=True),
    "TensorFlow, per layer": lambda fused, images: by_tensorflow(fused, images, per_channel=False),
}
# pip install nncf: no part of the development environment.
if importlib.util.find_spec("nncf"):
    QUANTIZERS["NNCF (OpenVINO), per channel"] = by_nncf


def _nchw(fused: FusedModel, images: Array) -> list[Array]:
    return [image.transpose(0, 3, 1, 2) for image in centered_inputs(images, fused.pad_gray)]


def _center(fused: FusedModel, images: Array) -> Array:
    centered: Array = images.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(fused.pad_gray)
    return centered


def _run_onnx(network: bytes, fused: FusedModel) -> Scorer:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])

    def score(images: Array) -> Array:
        return np.concatenate([session.run(None, {onnx.INPUT: image[None]})[0] for image in _center(fused, images)])

    return score


def measure(job: Job, per_tensor: Job) -> Iterator[dict[str, Any]]:
    """Yield a row for each quantizer and form."""
    images, labels = job.samples.held_out.images, job.samples.held_out.labels
    calibration = job.samples.calibration.images
    for form, fused in build(job, per_tensor).items():
        scorers = {"none": _run_onnx(onnx.to_float_nchw(fused), fused)}
        for name, quantize in QUANTIZERS.items():
            with quietly(f"{name} on the {form} network"):
                scorers[name] = quantize(fused, calibration)
        for name, score in scorers.items():
            found = score(images).argmax(1)
            row = {
                "quantizer": name,
                "form": form,
                "accuracy": float((found == labels).mean()),
                "agreement": float((found == job.keras_scores.argmax(1)).mean()),
            }
            print(row, flush=True)
            yield row


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table of docs/other-chips.md, its header first."""
    found = {(row["quantizer"], row["form"]): row["accuracy"] for row in record["rows"]}
    names = list(dict.fromkeys(row["quantizer"] for row in record["rows"]))
    lines = [["quantizer", *FORMS]]
    lines.append(["(the trained network, float)", percent(record["float_accuracy"], 2), "", ""])
    lines += [
        [name if name != "none" else "(not quantized)"] + [percent(found[name, form], 2) for form in FORMS]
        for name in names
    ]
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default=None)
    arguments = parser.parse_args()
    job, other = (
        open_job(
            arguments.run,
            ExportConfig(precisions=("int8",), golden=False, per_tensor=per_tensor),
            None,
            silent,
            in_blocks=False,
        )
        for per_tensor in (False, True)
    )
    rows = list(measure(job, other))
    figures = {
        "rows": rows,
        "float_accuracy": job.float_accuracy,
        "images": len(job.samples.held_out.labels),
        "image_size": job.record["config"]["image_size"],
    }
    for line in table(figures):
        print("  ".join(line))
    print(write_record(f"prepared-network-{arguments.name or arguments.run.name}", figures, VALID))


if __name__ == "__main__":
    main()
