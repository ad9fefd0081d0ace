"""Imports a Keras model: from its file and labeled images to a run folder that export, evaluate and report take."""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError, ModelFileError
from edgecls.files import file_sha256
from edgecls.images.dataset import Dataset, Split, load_dataset
from edgecls.images.layout import FOLDERS
from edgecls.images.memmap import chunks
from edgecls.imported.build import Source, build_float, build_network, read_source
from edgecls.imported.class_order import check_count
from edgecls.imported.graph import read_graph
from edgecls.imported.measure import BATCH_SIZE, ImportConfig, Measured, measure
from edgecls.imported.model_file import open_model
from edgecls.imported.refit import Refit, refit
from edgecls.networks.imported import ARCH
from edgecls.preprocessing import Preprocessing
from edgecls.progress import Progress, silent
from edgecls.training.outcome import data_warnings, make_record, metrics
from edgecls.training.run import run_folder
from edgecls.training.run.work_folder import FINISHED_FOLDER, check_out, new_run

if TYPE_CHECKING:
    import keras

# The network of the run must give the scores of the model, up to the rounding of floats.
MOST_DIFFERENCE = 1e-4
CHECKED_IMAGES = 64
SEEN = (
    "the model may have been trained on the held-out images, as this data has no test folder; accuracy is overstated "
    "then. Put images that it has never seen into DATA/test, and those that it was trained on into DATA/train"
)


@dataclass(frozen=True, eq=False)
class ImportResult:
    """The content of run.json, what the training images showed, and what was adapted if that was asked for."""

    record: dict[str, Any]
    measured: Measured
    refit: Refit | None


def import_model(
    model: Path,
    data: Path,
    out: Path,
    config: ImportConfig,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Write a run of the Keras model in the file `model` into the folder `out`, and return what was found.

    Args:
        model: a .keras file, or an .h5 file with layers.
        data: images of the classes that the model knows, as `config.layout` says.
        out: the run folder.
        config: the settings.
        skip_bad: leave out images that cannot be read.
        overwrite: replace a run that is there.
        progress: called at each stage.

    Raises:
        ModelFileError: the file is none of these, is damaged, or has layers that cannot be imported.
        DataError: the images cannot be used, or they do not show the scaling or the order of the classes.
        ConfigError: a setting does not fit the model, or `out` cannot be written.
    """
    check_out(out, overwrite=overwrite, inputs=(model, data, *config.layout.labels, config.layout.exclude))
    started = time.monotonic()
    source, size, as_trained = _read(model, config.image_size, progress)
    dataset = _load(data, size, config, skip_bad, progress)
    check_count(as_trained.output.shape[-1], dataset.classes)
    measured = measure(as_trained, source, dataset, config, progress)
    network = build_network(source, size, measured.scaling)
    _check_network(network, measured)
    dataset = _in_order(dataset, measured.order.classes)
    adapted = refit(network, dataset, progress) if config.refit else None
    record = _make_record(model, data, size, dataset, config, measured, adapted)
    with new_run(out, overwrite=overwrite) as work:
        record = _write(work / FINISHED_FOLDER, network, dataset, record, started, progress)
    return ImportResult(record, measured, adapted)


def _read(model: Path, image_size: int | None, progress: Progress) -> tuple[Source, int, keras.Model]:
    """Return the model, the side of its images in pixels, and it as a Keras model of this version."""
    progress("read the model", 0, 1)
    with open_model(model) as file:
        source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
        own = source.image_size
    if own is None and image_size is None:
        raise ConfigError(
            f"{model} takes images of any size; give the one that it was trained on, such as --image-size 224"
        )
    if own and image_size and own != image_size:
        raise ConfigError(f"{model} takes images of {own} x {own} pixels; leave out --image-size {image_size}")
    size = own or image_size or 0
    try:
        as_trained = build_float(source, size)
    except ModelFileError as error:
        raise ModelFileError(f"{model}: {error}") from error
    progress("read the model", 1, 1)
    return source, size, as_trained


def _load(data: Path, size: int, config: ImportConfig, skip_bad: bool, progress: Progress) -> Dataset:
    return load_dataset(
        data,
        size,
        val_fraction=TrainConfig.val_fraction,
        test_fraction=TrainConfig.test_fraction,
        seed=config.seed,
        layout=config.layout,
        skip_bad=skip_bad,
        preprocessing=Preprocessing(config.bits),
        progress=functools.partial(progress, "read images"),
    )


def _check_network(network: keras.Model, measured: Measured) -> None:
    """Raise ModelFileError if the network of the run gives other scores than the model."""
    scores = network.predict(measured.images[:CHECKED_IMAGES], batch_size=BATCH_SIZE, verbose=0)
    difference = float(np.abs(scores - measured.scores[:CHECKED_IMAGES]).max())
    if not difference <= MOST_DIFFERENCE:
        raise ModelFileError(
            f"the imported network's scores differ by {difference:.2g} from the model's; it is not written"
        )


def _in_order(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return the dataset with labels that count `classes`, and images in the order of their labels."""
    if classes == dataset.classes:
        return dataset
    label = np.array([classes.index(name) for name in dataset.classes])

    def reorder(split: Split) -> Split:
        order = np.argsort(label[split.labels], kind="stable")
        return Split(tuple(split.paths[i] for i in order), split.images[order], label[split.labels][order])

    test = reorder(dataset.test) if dataset.test else None
    train, val = reorder(dataset.train), reorder(dataset.val)
    return dataclasses.replace(dataset, classes=classes, train=train, val=val, test=test)


def _write(
    folder: Path, network: keras.Model, dataset: Dataset, record: dict[str, Any], started: float, progress: Progress
) -> dict[str, Any]:
    """Write all files of the run into `folder`, and return run.json."""
    found = _score(network, dataset, folder, progress)
    network.save(folder / run_folder.MODEL_FILE)
    seconds = round(time.monotonic() - started, 1)
    return run_folder.write_record(folder, record | {"metrics": found, "seconds": seconds})


def _score(network: keras.Model, dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write the scores of the held-out images into `folder` and return the metrics of run.json."""
    parts = {"val": dataset.val} | ({"test": dataset.test} if dataset.test else {})
    scores = {name: _score_part(network, name, part.images, progress) for name, part in parts.items()}
    run_folder.write_scores(folder / run_folder.SCORES_FILE, scores.get("test", scores["val"]))
    return metrics(scores, dataset)


def _score_part(network: keras.Model, name: str, images: NDArray[np.uint8], progress: Progress) -> NDArray[np.float32]:
    parts = []
    for chunk in chunks(images):
        parts.append(network.predict(chunk, batch_size=BATCH_SIZE, verbose=0))
        progress(f"score {name} images", sum(map(len, parts)), len(images))
    return np.concatenate(parts).astype(np.float32)


def _make_record(
    model: Path,
    data: Path,
    size: int,
    dataset: Dataset,
    config: ImportConfig,
    measured: Measured,
    adapted: Refit | None,
) -> dict[str, Any]:
    """Return run.json without what is known only at the end."""
    sha256 = file_sha256(model)
    record = make_record(TrainConfig(), None, dataset, data)
    found: dict[str, Any] = {
        "file": str(model.resolve()),
        "sha256": sha256,
        "scaling": dataclasses.asdict(measured.scaling),
        "scalings": {trial.scaling.name: trial.accuracy for trial in measured.trials},
        "options": _options(config, measured),
        "classes": measured.order.text,
        "images": measured.order.images,
        "accuracy": measured.accuracy,
        "resizing": {way.name: {"accuracy": way.accuracy, "p_value": way.p_value} for way in measured.resizing},
    }
    return record | {
        "warnings": [
            *measured.warnings,
            *([SEEN] if dataset.is_split_here else []),
            *data_warnings(dataset),
        ],
        "arch": ARCH,
        "config": {"image_size": size, "bits": config.bits, "seed": config.seed},
        "weights": {"source": str(model.resolve()), "sha256": sha256},
        "imported": found | ({"refit": adapted.to_json()} if adapted else {}),
    }


def _options(config: ImportConfig, measured: Measured) -> list[str]:
    """Return the options of `edgecls import` that repeat this import."""
    options = ["--scaling", measured.scaling.name]
    for name in ("classes", "image_size", "bits", "seed"):
        if (value := getattr(config, name)) != getattr(ImportConfig, name):
            options += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in vars(config.layout).items():
        if value != getattr(FOLDERS, name):
            options += [f"--{name.replace('_', '-')}", ",".join(value) if name == "labels" else value]
    return [*options, *(["--refit"] if config.refit else [])]
