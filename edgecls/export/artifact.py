"""Writes exported files and says whether they are any good: convert, add the contract, score the file, gate.

The one place where TensorFlow and the runtimes meet.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import ExportConfig
from edgecls.container import Kind
from edgecls.errors import ModelFileError
from edgecls.evaluate import score
from edgecls.export import onnx, tflite
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.samples import ExportSamples, load_samples
from edgecls.image import LUMA, RESAMPLE
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import load
from edgecls.spec import ModelSpec, attach_spec
from edgecls.training import run_folder
from edgecls.versions import tool_versions

RECORD_FILE = "export.json"
REJECTED = "rejected"


@dataclass(frozen=True)
class ExportedFile:
    """One written file and what it scored, read off the file itself in its own runtime.

    Attributes:
        path: file name inside the export folder.
        format: "tflite" or "onnx".
        precision: one of `config.PRECISIONS`.
        bytes: size of the file.
        sha256: of the file.
        accuracy: share of held-out images it gets right, 0..1.
        drop: accuracy of the float Keras model less this accuracy.
        agreement: share of held-out images that get the float model's label, 0..1.
        macro_f1: mean F1 over the classes, 0..1.
        per_class: label -> recall, precision, support.
        passed: True if `drop` is within the limit.
    """

    path: str
    format: str
    precision: str
    bytes: int
    sha256: str
    accuracy: float
    drop: float
    agreement: float
    macro_f1: float
    per_class: dict[str, Any]
    passed: bool


@dataclass(frozen=True)
class ExportResult:
    """What an export came to.

    Attributes:
        folder: where the files are.
        float_accuracy: of the Keras model on the same images, 0..1.
        images: how many held-out images the files were scored on.
        files: one entry for each file written now.
    """

    folder: Path
    float_accuracy: float
    images: int
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True, eq=False)
class _Job:
    """What every file of one export shares."""

    fused: FusedModel
    samples: ExportSamples
    keras_scores: NDArray[np.float32]
    record: dict[str, Any]
    config: ExportConfig

    @functools.cached_property
    def float_accuracy(self) -> float:
        return float((self.keras_scores.argmax(1) == self.samples.held_out.labels).mean())


def export_run(
    run: Path,
    config: ExportConfig,
    *,
    out: Path | None = None,
    data: Path | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Return what the files score that this call writes to `out` (default: the run's folder `export`).

    A file whose accuracy dropped by more than `config.max_drop` is kept as NAME.rejected.SUFFIX, so that nobody ships
    it by mistake.

    Raises:
        ModelFileError: `run` is no run. DataError: its images are gone or changed. ExportError: a conversion failed.
    """
    record = run_folder.read_record(run)
    samples = load_samples(
        record,
        data=data,
        count=config.calibration_images,
        seed=config.seed,
        progress=functools.partial(progress, "read held-out images"),
    )
    scores = run_folder.read_held_out_scores(run, len(samples.held_out.labels), len(record["classes"]))
    job = _Job(fuse(run_folder.load_model(run)), samples, scores, record, config)
    folder = out or run / "export"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        for precision in config.precisions:
            for kind in config.formats:
                files.append(_write_file(job, precision, kind, Path(temporary), progress))
        _publish(Path(temporary), folder, job, files)
    return ExportResult(folder, job.float_accuracy, len(samples.held_out.labels), tuple(files))


def _write_file(job: _Job, precision: str, kind: Kind, folder: Path, progress: Progress) -> ExportedFile:
    name = f"model-{precision}.{kind}"
    progress(f"convert {name}", 0, 1)
    graph = _convert(job, precision, kind)
    progress(f"convert {name}", 1, 1)
    path = folder / name
    spec = _spec(job, precision)
    path.write_bytes(attach_spec(graph, spec, kind))
    measured = _measure(job, path, functools.partial(progress, f"score {name}"))
    spec = replace(spec, metrics=measured | {"images": len(job.samples.held_out.labels)})
    data = attach_spec(graph, spec, kind)
    passed = measured["drop"] <= job.config.max_drop + 1e-9
    final = path if passed else path.with_name(f"model-{precision}.{REJECTED}.{kind}")
    path.unlink()
    final.write_bytes(data)
    return ExportedFile(
        final.name, kind, precision, len(data), hashlib.sha256(data).hexdigest(), **measured, passed=passed
    )


def _convert(job: _Job, precision: str, kind: Kind) -> bytes:
    if precision == "fp32":
        return tflite.to_fp32(job.fused) if kind == "tflite" else onnx.to_fp32(job.fused)
    to_int8 = tflite.to_int8 if kind == "tflite" else onnx.to_int8
    return to_int8(job.fused, job.samples.calibration.images)


def _measure(job: _Job, path: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return accuracy, drop, agreement, macro_f1 and per_class of a written file on the held-out images."""
    held_out = job.samples.held_out
    classifier = load(path)
    parts = []
    for start in range(0, len(held_out.labels), 32):
        parts.append(classifier.scores(held_out.images[start : start + 32]))
        progress(min(start + 32, len(held_out.labels)), len(held_out.labels))
    scores = np.concatenate(parts)
    evaluation = score(scores, held_out.labels, job.record["classes"])
    return {
        "accuracy": evaluation.accuracy,
        "drop": job.float_accuracy - evaluation.accuracy,
        "agreement": float((scores.argmax(1) == job.keras_scores.argmax(1)).mean()),
        "macro_f1": evaluation.macro_f1,
        "per_class": evaluation.to_json()["per_class"],
    }


def _spec(job: _Job, precision: str) -> ModelSpec:
    size = job.record["config"]["image_size"]
    quantized = precision == "int8"
    return ModelSpec(
        labels=tuple(job.record["classes"]),
        height=size,
        width=size,
        resample=RESAMPLE,
        luma=LUMA,
        precision=precision,
        input_dtype="uint8",
        input_scale=1.0,
        input_zero_point=job.fused.pad_gray if quantized else 0,
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


def _publish(temporary: Path, folder: Path, job: _Job, files: list[ExportedFile]) -> None:
    """Move finished files into `folder`; export.json comes last and keeps the entries of older files still there."""
    for file in files:
        other = (
            f"model-{file.precision}.{file.format}"
            if not file.passed
            else f"model-{file.precision}.{REJECTED}.{file.format}"
        )
        (folder / other).unlink(missing_ok=True)
        (temporary / file.path).replace(folder / file.path)
    written = {file.path for file in files}
    older = [
        entry for entry in _old_entries(folder) if entry["path"] not in written and (folder / entry["path"]).is_file()
    ]
    record = {
        "format_version": 1,
        "float_accuracy": job.float_accuracy,
        "images": len(job.samples.held_out.labels),
        "split": job.samples.held_out_name,
        "max_drop": job.config.max_drop,
        "calibration_sha256": run_folder.images_sha256(job.samples.calibration.images),
        "files": older + [asdict(file) for file in files],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (temporary / RECORD_FILE).write_text(text, encoding="utf-8")
    (temporary / RECORD_FILE).replace(folder / RECORD_FILE)


def _old_entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / RECORD_FILE
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); delete it and export again") from error
