"""The demo: train, export and evaluate a classifier on the images in the package; all files go into one folder."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecls.config import ExportConfig, TrainConfig
from edgecls.errors import DataError
from edgecls.images.contact_sheet import contact_sheet
from edgecls.images.dataset import load_labeled
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import load

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult

# Small enough for a minute on a laptop, large enough to tell ten kinds of clothing apart.
TRAIN_CONFIG = TrainConfig(image_size=128)
EXPORT_CONFIG = ExportConfig(precisions=("fp32", "int8"))
SHOWN_PER_CLASS = 4


@dataclass(frozen=True)
class DemoResult:
    """The run folder, its export with the int8 TFLite `file`, a test image, and a PNG of labeled test images."""

    run: Path
    export: ExportResult
    file: Path
    image: Path
    sheet: Path
    warnings: tuple[str, ...]


def run_demo(out: Path, progress: Progress = silent) -> DemoResult:
    """Train on the packaged images, export the run, draw test images with their predicted labels, all in `out`."""
    from edgecls.export.artifact import export_run
    from edgecls.report.pictures import PICTURES
    from edgecls.training.train import train

    images = unpack_demo_data(out / "images")
    run = out / "run"
    trained = train(images, run, TRAIN_CONFIG, overwrite=True, pictures=PICTURES, progress=progress)
    exported = export_run(run, EXPORT_CONFIG, progress=progress)
    written = next(file for file in exported.files if (file.precision, file.format) == ("int8", "tflite"))
    file, sheet = exported.folder / written.path, out / "contact-sheet.png"
    _draw_sheet(file, images, sheet)
    image = min(images.glob("test/*/*.png"))
    return DemoResult(run, exported, file, image, sheet, trained.warnings)


def _draw_sheet(file: Path, images: Path, sheet: Path) -> None:
    classifier = load(file)
    spec, labels = classifier.spec, classifier.spec.labels
    split = load_labeled(images, labels, spec.height, spec.width, bits=spec.bits)
    chosen = np.concatenate([np.flatnonzero(split.labels == label)[:SHOWN_PER_CLASS] for label in range(len(labels))])
    predictions = classifier.predict_batch(split.images[chosen])
    picture = contact_sheet(
        split.images[chosen],
        [labels[prediction.index] for prediction in predictions],
        [labels[index] for index in split.labels[chosen]],
        [prediction.score for prediction in predictions],
    )
    picture.save(sheet)


def unpack_demo_data(folder: Path) -> Path:
    """Return `folder` with train/ and test/, each with a folder of PNG files for each of 10 classes.

    The folder appears complete or not at all; if it is already complete, it is not changed.

    Raises:
        DataError: the folder contains other files, or cannot be written.
    """
    packaged = resources.files("edgecls").joinpath("demo_data/fashion-mnist.zip")
    with packaged.open("rb") as file, zipfile.ZipFile(file) as archive:
        if _is_complete(folder, archive):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".edgecls-demo-") as temporary:
                staged = Path(temporary) / "images"
                archive.extractall(staged)
                # Fails if the folder is not empty: no file of the user is ever replaced.
                staged.rename(folder)
        except OSError as error:
            # Another process may have unpacked the same files at the same time.
            if not _is_complete(folder, archive):
                raise DataError(
                    f"cannot unpack the demo images into {str(folder)!r}: {error}; name a new or an empty folder"
                ) from error
    return folder


def _is_complete(folder: Path, archive: zipfile.ZipFile) -> bool:
    return all(_has_content(folder / name, archive.read(name)) for name in archive.namelist())


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
