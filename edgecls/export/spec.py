"""The metadata of an exported file."""

from __future__ import annotations

import datetime

from edgecls.boards.versions import tool_versions
from edgecls.export.job import Job
from edgecls.images.decode import LUMA, RESAMPLE
from edgecls.model_file.metadata import ModelSpec
from edgecls.preprocessing import read_preprocessing
from edgecls.training.run import run_folder


def make_spec(job: Job, precision: str, *, heatmap: bool) -> ModelSpec:
    """Return the metadata of a file as far as it is known before the file is scored."""
    size = job.record["config"]["image_size"]
    quantized = precision == "int8"
    return ModelSpec(
        labels=tuple(job.record["classes"]),
        height=size,
        width=size,
        channels=3 if job.config.input == "rgb" else 1,
        **vars(read_preprocessing(job.record["config"])),
        resample=RESAMPLE,
        luma=LUMA,
        precision=precision,
        input_dtype="uint8",
        input_scale=1.0,
        input_zero_point=round(job.int8_fused.pad_gray) if quantized else 0,
        target=job.target.name if quantized else "",
        per_tensor=quantized and job.target.per_tensor,
        heatmap=heatmap,
        arch=job.record["arch"],
        weights=job.record["weights"],
        metrics={},
        train_sha256=job.record["train_sha256"],
        calibration_sha256=run_folder.images_sha256(job.samples.calibration.images) if quantized else None,
        versions=tool_versions(
            "tensorflow", "tensorflow-cpu", "keras", "onnx", "tf2onnx", "onnxruntime", "ai-edge-litert"
        ),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
