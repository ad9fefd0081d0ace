"""Writes the prepared float network for the quantizers of other vendors, with calibration images."""

from __future__ import annotations

import functools
import inspect
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.boards.versions import tool_versions
from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, ExportError
from edgecls.export import onnx, rebuild
from edgecls.export.fuse import FusedModel
from edgecls.export.gate import Comparison, compare
from edgecls.export.graph import in_batches, sources_of
from edgecls.export.imported import network_errors
from edgecls.export.imported_layers import copy_layer
from edgecls.export.job import Job, open_job
from edgecls.export.npu import for_npu
from edgecls.files import file_sha256, write_json
from edgecls.preprocessing import read_preprocessing
from edgecls.progress import Progress, silent
from edgecls.training.run import run_folder

if TYPE_CHECKING:
    import keras

RECORD_FILE = "prepared.json"
# Scored at once.
BATCH_PIXELS = 16 * 224 * 224
# Settings of each kind of layer that Keras 2 and 3 share. A network of edgecls has no other kinds.
SETTINGS = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "groups", "dilation_rate", "activation", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias"),
    "ReLU": ("max_value",),
    "ZeroPadding2D": ("padding",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "Add": (),
    "Flatten": (),
    "Softmax": (),
}
_Scorer = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class PreparedFile:
    """A written network and how it compares with the trained one on the held-out images."""

    path: str
    bytes: int
    sha256: str
    comparison: Comparison


@dataclass(frozen=True)
class PreparedResult:
    """What `export_prepared` wrote into `folder`; the accuracies are those on `images` held-out images."""

    folder: Path
    float_accuracy: float
    images: int
    calibration_images: int
    files: tuple[PreparedFile, ...]


def export_prepared(
    run: Path,
    config: ExportConfig,
    kinds: Sequence[str],
    *,
    out: Path | None = None,
    data: Path | None = None,
    progress: Progress = silent,
) -> PreparedResult:
    """Write the prepared network of a run to `out` (default: the run's folder `prepared`), and score each file.

    The folder gets prepared.KIND for each of `kinds` (of `WRITERS`), prepared.json, the calibration images as
    calibration.npy and as PNG files that calibration.txt lists, and rebuild.py beside prepared.npz. An earlier folder
    is replaced.

    Args:
        run: the run folder.
        config: `prune`, `per_tensor`, `max_drop`, `calibration_images` and `seed` count.
        kinds: the formats.
        out: the folder.
        data: the folder of the run's images, if it was moved.
        progress: is called for every step.

    Raises:
        ModelFileError: `run` is not a run folder. DataError: its images are missing or changed.
        ConfigError: the folder holds something else. ExportError: the network lost more than `config.max_drop`.
    """
    folder = out or run / "prepared"
    _check_folder(folder)
    job = open_job(run, replace(config, precisions=("int8",), golden=False), data, progress, in_blocks=False)
    fused = _prepare(job, progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepared-", dir=folder.parent) as temporary:
        partial = Path(temporary) / "prepared"
        files = _write_all(job, fused, kinds, partial, progress)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    images, calibration = len(job.samples.held_out.labels), len(job.samples.calibration.images)
    return PreparedResult(folder, job.float_accuracy, images, calibration, tuple(files))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not (folder / RECORD_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is no folder that --prepared wrote; give another --out, or remove it")


def _prepare(job: Job, progress: Progress) -> FusedModel:
    """Return the prepared network; raise ExportError if this is an imported one that cannot be prepared."""
    progress("prepare the network", 0, 1)
    try:
        fused = for_npu(job.prepared)
    except network_errors() as problem:
        if not job.is_imported:
            raise
        raise ExportError(
            f"this imported network cannot be prepared for int8 ({problem!s:.200}); export it with --fp32 --format onnx"
        ) from problem
    progress("prepare the network", 1, 1)
    return fused


def _write_all(
    job: Job, fused: FusedModel, kinds: Sequence[str], folder: Path, progress: Progress
) -> list[PreparedFile]:
    """Write the networks and what belongs to them into a new folder."""
    folder.mkdir()
    files = []
    for kind in kinds:
        progress(f"write prepared.{kind}", 0, 1)
        files.append(_write(job, fused, kind, folder))
        progress(f"write prepared.{kind}", 1, 1)
    _write_calibration(job.samples.calibration.images, folder)
    write_json(folder / RECORD_FILE, _record(job, fused, files))
    return files


def _write(job: Job, fused: FusedModel, kind: str, folder: Path) -> PreparedFile:
    """Write one file and return its scores; raise ExportError if it lost too much."""
    path = folder / f"prepared.{kind}"
    score = WRITERS[kind](fused, path)
    held_out = job.samples.held_out
    batches = in_batches(held_out.images, BATCH_PIXELS)
    scores = np.concatenate([score(batch.astype(np.float32) - np.float32(fused.pad_gray)) for batch in batches])
    comparison = compare(scores, job.keras_scores, held_out.labels, job.record["classes"], job.config.max_drop)
    if not comparison.passed:
        raise ExportError(
            f"the prepared network {comparison.verdict}, so nothing was written; try --prune 0, or a larger --max-drop"
        )
    return PreparedFile(path.name, path.stat().st_size, file_sha256(path), comparison)


def _write_keras(fused: FusedModel, path: Path) -> _Scorer:
    import keras

    _with_any_batch(fused.core).save(path)
    return _predict(keras.models.load_model(path, compile=False))


def _write_npz(fused: FusedModel, path: Path) -> _Scorer:
    import keras

    network = _with_any_batch(fused.core)
    arrays = {
        f"{layer.name}/{weight.name}": value
        for layer in network.layers
        for weight, value in zip(layer.weights, layer.get_weights(), strict=True)
    }
    np.savez(path, layers=np.array(json.dumps(_describe(network))), **arrays)
    path.with_name("rebuild.py").write_text(inspect.getsource(rebuild), encoding="utf-8")
    return _predict(rebuild.rebuild(path, keras))


def _write_onnx(fused: FusedModel, path: Path) -> _Scorer:
    import onnxruntime

    path.write_bytes(onnx.to_float_nchw(fused))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def score(images: NDArray[np.float32]) -> Any:
        rows = [session.run(None, {onnx.INPUT: image.transpose(2, 0, 1)[None]})[0] for image in images]
        return np.concatenate(rows)

    return score


WRITERS: dict[str, Callable[[FusedModel, Path], _Scorer]] = {
    "keras": _write_keras,
    "npz": _write_npz,
    "onnx": _write_onnx,
}


def _predict(network: keras.Model) -> _Scorer:
    return lambda images: network.predict(images, verbose=0)


def _with_any_batch(core: keras.Model) -> keras.Model:
    """Return a copy for any number of images at a time, of Keras' own layers alone."""
    import keras

    image = keras.Input(core.input.shape[1:], name=onnx.INPUT)
    own = functools.partial(copy_layer, grouped_as=keras.layers.Conv2D)
    copy = keras.models.clone_model(core, input_tensors=image, clone_function=own)
    copy.set_weights(core.get_weights())
    return copy


def _describe(network: keras.Model) -> list[dict[str, Any]]:
    """Return what `rebuild.rebuild` needs of each layer, in order.

    Raises:
        ExportError: a layer of an imported network is of a kind that is not in `SETTINGS`.
    """
    sources, layers = sources_of(network), []
    for layer in network.layers:
        kind = type(layer).__name__
        if kind != "InputLayer" and kind not in SETTINGS:
            raise ExportError(f"prepared.npz cannot hold {layer.name!r}, a {kind}; use --format keras or --format onnx")
        config = layer.get_config()
        settings = {name: config[name] for name in SETTINGS.get(kind, ())}
        layers.append(
            {
                "name": layer.name,
                "kind": kind,
                "inputs": sources[layer.name],
                "settings": settings if settings or kind != "InputLayer" else {"shape": network.input.shape[1:]},
                "weights": [weight.name for weight in layer.weights],
            }
        )
    return layers


def _write_calibration(images: NDArray[np.uint8], folder: Path) -> None:
    """Write images, uint8 (N, S, S, 1), as one array, as PNG files, and as a list of these."""
    content = io.BytesIO()
    np.save(content, images, allow_pickle=False)
    (folder / "calibration.npy").write_bytes(content.getvalue())
    (folder / "calibration").mkdir()
    names = [f"calibration/{number:04}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image[..., 0]).save(folder / name)
    (folder / "calibration.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _record(job: Job, fused: FusedModel, files: Sequence[PreparedFile]) -> dict[str, Any]:
    """Return prepared.json."""
    _, height, width, channels = fused.core.input.shape
    return {
        "format_version": 1,
        "labels": job.record["classes"],
        "height": height,
        "width": width,
        "channels": channels,
        # A tool that normalizes computes (pixel - mean) / std; padding with zeros then means padding with gray.
        "mean": float(fused.pad_gray),
        "std": 1.0,
        **vars(read_preprocessing(job.record["config"])),
        "per_tensor": job.config.per_tensor,
        "prune": job.config.prune,
        "float_accuracy": job.float_accuracy,
        "images": len(job.samples.held_out.labels),
        "split": job.samples.held_out_name,
        "calibration_images": len(job.samples.calibration.images),
        "calibration_sha256": run_folder.images_sha256(job.samples.calibration.images),
        "run": run_folder.run_id(job.record),
        "versions": tool_versions("tensorflow", "tensorflow-cpu", "keras", "onnx", "tf2onnx", "onnxruntime"),
        "files": [
            {"path": file.path, "bytes": file.bytes, "sha256": file.sha256} | asdict(file.comparison) for file in files
        ],
    }
