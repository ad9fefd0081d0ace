"""Writes exported files: converts the network, adds the metadata, scores each file in its runtime and compares."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import ExportConfig
from edgecls.errors import ExportError
from edgecls.evaluate import score, score_images
from edgecls.export import export_folder, inspect, mediapipe, onnx, tflite
from edgecls.export.export_folder import ExportedFile
from edgecls.export.gate import Comparison, compare
from edgecls.export.heatmap import add_heatmap
from edgecls.export.imported import network_errors
from edgecls.export.job import Job, open_job
from edgecls.export.known import measure_known
from edgecls.export.mistakes import Mistakes, draw_flips, write_tables
from edgecls.export.quantization.bias_correction import correct_bias
from edgecls.export.quantization.layer_error import measure_layers, worst_layer, write_layers
from edgecls.export.rgb import add_metadata, as_rgb, to_rgb
from edgecls.export.spec import make_spec
from edgecls.limits import Format
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.selftest import add_scores
from edgecls.model_file.write import attach_spec
from edgecls.preprocessing import read_preprocessing
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import Classifier, load
from edgecls.runtime.engines import own_engine
from edgecls.training.run import run_folder

LAYER_IMAGES = 8
# Sums of floats depend on how a runtime groups the operators.
SAME_SCORE = 1e-5
CHOICE_BATCH = 16


@dataclass(frozen=True)
class ExportResult:
    """The files that an export wrote, scored on `images` held-out images; `notes` are what the user should know."""

    folder: Path
    float_accuracy: float
    images: int
    files: tuple[ExportedFile, ...]
    # The folder of the run's images and one of its held-out images.
    data: Path
    image: Path
    notes: tuple[str, ...] = ()


def export_run(
    run: Path,
    config: ExportConfig,
    *,
    out: Path | None = None,
    data: Path | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Write the files to `out` (default: the run's folder `export`, or `export-rgb`) and return their scores.

    A file whose accuracy dropped by more than `config.max_drop` is named NAME.rejected.SUFFIX, so that nobody ships it
    by mistake.

    Raises:
        ModelFileError: `run` is not a run folder. DataError: its images are missing or changed.
        ExportError: a conversion failed.
        ConfigError: the target is unknown or does not run one of the formats, the network has no heat map, another
            process exports into `out`, or the files there are of another run.
    """
    job = open_job(run, config, data, progress)
    # Both kinds of files have the same names.
    folder = out or run / ("export" if config.input == "gray" else "export-rgb")
    files, notes = [], _list_notes(job)
    with export_folder.work_in(folder, run, run_folder.run_id(job.record)) as (partial, older):
        for note in older.notes:
            progress("check earlier exports", 1, 1, note)
        for precision in config.precisions:
            for kind in config.formats:
                files.append(_write_file(job, precision, kind, partial, notes, progress))
        export_folder.publish(partial, folder, _record(job), files, older)
    return ExportResult(
        folder=folder,
        float_accuracy=job.float_accuracy,
        images=len(job.samples.held_out.labels),
        files=tuple(files),
        data=job.samples.root,
        image=job.samples.root / job.samples.held_out.paths[0],
        notes=(*older.notes, *notes, *export_folder.list_removed(folder, older)),
    )


def _list_notes(job: Job) -> list[str]:
    """Return what the user should know of all files."""
    notes = [job.rewritten.problem] if job.is_imported and job.rewritten.problem else []
    return notes + ([mediapipe.NOT_INSTALLED] if job.config.input == "rgb" and not mediapipe.is_installed() else [])


def _write_file(
    job: Job, precision: str, kind: Format, folder: Path, notes: list[str], progress: Progress
) -> ExportedFile:
    """Write one file into `folder`; append to `notes` what the user should know."""
    name = export_folder.model_name(precision, kind)
    prepare, graph = _make_graph(job, precision, kind, notes, progress)
    classifier = _load(job, graph, precision, kind, heatmap=job.config.heatmap)
    scores = score_images(classifier, job.samples.held_out.images, functools.partial(progress, f"score {name}"))
    if job.config.heatmap:
        report = functools.partial(progress, f"score {name} without its heat map")
        _check_same_scores(job, scores, precision, kind, prepare, report)
    labels, classes = job.samples.held_out.labels, job.record["classes"]
    comparison = compare(scores, job.keras_scores, labels, classes, job.config.max_drop)
    comparison, in_mediapipe = _run_in_mediapipe(job, graph, classifier.spec, scores, comparison, progress)
    evaluation = score(scores, labels, classes)
    found = {"macro_f1": evaluation.macro_f1, "images": len(labels)} | measure_known(job.samples, classifier)
    spec = replace(classifier.spec, metrics=asdict(comparison) | found, golden=add_scores(job.golden, classifier))
    picture = folder / export_folder.rates_name(precision, kind)
    spec, inspection = _inspect(job, classifier, scores, spec, picture, progress) if job.good_class else (spec, None)
    data = attach_spec(graph, spec, kind)
    name = export_folder.model_name(precision, kind, rejected=not comparison.passed)
    (folder / name).write_bytes(data)
    with_layers = (precision, kind, job.config.input) == ("int8", "tflite", "gray")
    with_layers &= job.config.layers or not comparison.passed
    mistakes = Mistakes(job.samples, classes, scores, job.keras_scores, read_preprocessing(job.record["config"]))
    return ExportedFile(
        path=name,
        format=kind,
        precision=precision,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        comparison=comparison,
        macro_f1=evaluation.macro_f1,
        per_class=evaluation.to_json()["per_class"],
        flips=draw_flips(mistakes, folder / export_folder.flips_name(precision, kind)),
        worst_layer=_write_layers(job, graph, folder, prepare) if with_layers else "",
        mistakes=write_tables(mistakes, folder, precision, kind),
        inspection=inspection,
        in_mediapipe=in_mediapipe,
    )


def _run_in_mediapipe(
    job: Job, graph: bytes, spec: ModelSpec, scores: NDArray[np.float32], comparison: Comparison, progress: Progress
) -> tuple[Comparison, dict[str, Any] | None]:
    """Return the comparison of a file with RGB input judged in MediaPipe too, and what MediaPipe says, if it can."""
    if job.config.input != "rgb" or not mediapipe.is_installed():
        return comparison, None
    report = functools.partial(progress, f"score {export_folder.model_name(spec.precision, 'tflite')} in MediaPipe")
    # MediaPipe reads the labels that come with the metadata.
    data = attach_spec(graph, spec, "tflite")
    found = mediapipe.run_in_mediapipe(data, spec, job.samples.root, job.samples.held_out, scores, report)
    return mediapipe.judge(comparison, found, spec.precision), asdict(found)


def _make_graph(job: Job, precision: str, kind: Format, notes: list[str], progress: Progress) -> tuple[bool, bytes]:
    """Return whether the network was prepared for int8, and the file without its metadata."""
    stage = f"convert {export_folder.model_name(precision, kind)}"
    progress(stage, 0, 1)
    prepare, graph = True, b""
    if job.is_imported and precision == "int8":
        prepare, graph = _choose_int8(job, kind, notes)
    if not graph or job.config.heatmap:
        graph = _convert(job, precision, kind, heatmap=job.config.heatmap, prepare=prepare)
    progress(stage, 1, 1)
    return prepare, graph


def _inspect(
    job: Job, classifier: Classifier, scores: NDArray[np.float32], spec: ModelSpec, picture: Path, progress: Progress
) -> tuple[ModelSpec, dict[str, Any]]:
    """Draw missed defects and false alarms; return the metadata with the threshold, and `inspection` of export.json."""
    report = functools.partial(progress, "score validation images")
    found = inspect.inspect(job.good_class, job.config, job.samples, classifier, scores, job.unseen, report)
    inspect.draw_rates(found, picture)
    metrics = spec.metrics | {"inspection": found.to_metadata()}
    spec = replace(spec, metrics=metrics, good_class=job.good_class, good_threshold=found.threshold)
    return spec, found.to_json() | {"picture": picture.name}


def _load(job: Job, graph: bytes, precision: str, kind: Format, *, heatmap: bool) -> Classifier:
    """Return the classifier of a converted graph, in its format's own engine whatever else is installed."""
    return load(attach_spec(graph, make_spec(job, precision, heatmap=heatmap), kind), engine=own_engine(kind))


def _convert(job: Job, precision: str, kind: Format, *, heatmap: bool, prepare: bool = True) -> bytes:
    """Return a file without its metadata; `prepare` is False for an int8 file of the network as it is."""
    if job.config.input == "rgb":
        return _convert_rgb(job, precision, prepare=prepare)
    calibration = job.samples.calibration.images
    finish = functools.partial(add_heatmap, images=calibration) if heatmap else lambda fused: fused
    if precision == "fp32":
        fused = finish(job.float_fused)
        return tflite.to_fp32(fused) if kind == "tflite" else onnx.to_fp32(fused)
    if precision == "fp16":
        fused = finish(job.float_fused)
        return tflite.to_fp16(fused) if kind == "tflite" else onnx.to_fp16(fused)
    prepared = job.prepared if prepare else job.int8_fused
    if kind == "tflite":
        return tflite.to_int8(finish(prepared), calibration, target=job.target)
    if prepare and job.target.weight_bits < 8:
        prepared = correct_bias(job.equalized, calibration, job.target.weight_steps, per_tensor=job.target.per_tensor)
    return onnx.to_int8(finish(prepared), calibration, target=job.target)


def _choose_int8(job: Job, kind: Format, notes: list[str]) -> tuple[bool, bytes]:
    """Return the int8 file of an imported network, and whether it was prepared for int8.

    The preparation is made for networks like MobileNetV2. It is left out where a file without it is nearer to the float
    model on training images that neither was calibrated on.
    """
    name, images = export_folder.model_name("int8", kind), job.choice
    wanted = job.model.predict(images, batch_size=CHOICE_BATCH, verbose=0)

    def judge(prepare: bool) -> tuple[float, bytes]:
        graph = _convert(job, "int8", kind, heatmap=False, prepare=prepare)
        scores = score_images(_load(job, graph, "int8", kind, heatmap=False), images)
        return float(np.abs(scores - wanted).mean()), graph

    error, graph = judge(prepare=False)
    try:
        prepared_error, prepared = judge(prepare=True)
    except network_errors() as problem:
        notes.append(f"{name} is not prepared for int8, as this network cannot be: {problem!s:.200}")
        return False, graph
    if prepared_error <= error:
        return True, prepared
    notes.append(
        f"{name} is not prepared for int8: on {len(images)} training images its scores differ by {error:.4f} from the "
        f"float model's, and with the preparation by {prepared_error:.4f}"
    )
    return False, graph


def _convert_rgb(job: Job, precision: str, *, prepare: bool) -> bytes:
    """Return the TFLite file of the network with an RGB input."""
    if precision == "int8":
        images, fused = as_rgb(job.samples.calibration.images), job.prepared if prepare else job.int8_fused
        return add_metadata(tflite.to_int8(to_rgb(fused), images, target=job.target))
    convert = tflite.to_fp32 if precision == "fp32" else tflite.to_fp16
    return add_metadata(convert(to_rgb(job.float_fused)))


def _check_same_scores(
    job: Job,
    scores: NDArray[np.float32],
    precision: str,
    kind: Format,
    prepare: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Raise ExportError if the file without a heat map gives the held-out images other scores."""
    graph = _convert(job, precision, kind, heatmap=False, prepare=prepare)
    plain = score_images(_load(job, graph, precision, kind, heatmap=False), job.samples.held_out.images, progress)
    if not (difference := float(np.abs(plain - scores).max())) <= SAME_SCORE:
        raise ExportError(
            f"the {precision} {kind} file with a heat map gives scores that differ by {difference:.2g} from those of "
            "the file without; export without --heatmap, and report this"
        )


def _write_layers(job: Job, graph: bytes, folder: Path, prepare: bool) -> str:
    """Write the table of the int8 TFLite layers' errors and return the layer that loses most of the signal."""
    # Layers are found by their names in the file; converters rename some of an imported network's.
    fused = job.equalized if prepare else job.int8_fused
    rows = measure_layers(fused, graph, job.samples.calibration.images[:LAYER_IMAGES])
    write_layers(rows, folder / export_folder.layers_name("int8", "tflite"))
    return worst_layer(rows).layer if rows else ""


def _record(job: Job) -> dict[str, Any]:
    """Return export.json without its `files`."""
    return {
        "format_version": 1,
        "run": {"path": str(job.run.resolve()), "id": run_folder.run_id(job.record)},
        "float_accuracy": job.float_accuracy,
        "images": len(job.samples.held_out.labels),
        "split": job.samples.held_out_name,
        "max_drop": job.config.max_drop,
        "target": job.target.name,
        "calibration_sha256": run_folder.images_sha256(job.samples.calibration.images),
    }
