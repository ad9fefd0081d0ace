"""The demo: real images shipped in the package are trained on, exported, scored and shown. One folder holds it all."""

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
from edgecls.images.dataset import load_labelled
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import load

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult

# Small enough for a minute on a laptop, large enough for features that tell ten kinds of clothing apart.
TRAIN_CONFIG = TrainConfig(image_size=128)
EXPORT_CONFIG = ExportConfig(precisions=("fp32", "int8"))
SHOWN_PER_CLASS = 4


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        run: the run folder.
        export: what its files scored.
        file: the int8 TFLite file.
        sheet: PNG of test images with the labels that the int8 file gave them.
        warnings: what the user should know besides.
    """

    run: Path
    export: ExportResult
    file: Path
    sheet: Path
    warnings: tuple[str, ...]


def run_demo(out: Path, progress: Progress = silent) -> DemoResult:
    """Return what came of training, exporting and showing the packaged images, all of it inside `out`.

    Raises:
        EdgeclsError: as training and export raise it.
    """
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
    return DemoResult(run, exported, file, sheet, trained.warnings)


def _draw_sheet(file: Path, images: Path, sheet: Path) -> None:
    classifier = load(file)
    spec, labels = classifier.spec, classifier.spec.labels
    split = load_labelled(images, labels, spec.height, spec.width, bits=spec.bits)
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
    """Return `folder`, holding train/ and test/ with one folder of PNG files for each of 10 classes.

    The folder appears complete or not at all. One that is complete already is left as it is.

    Raises:
        DataError: the folder holds something else, or cannot be written.
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
                # Fails if the folder holds anything: nothing of the user's is ever replaced.
                staged.rename(folder)
        except OSError as error:
            # Another process may have unpacked the same files in the meantime.
            if not _is_complete(folder, archive):
                raise DataError(
                    f"cannot unpack the demo images into {str(folder)!r}: {error}; name a new or an empty folder"
                ) from error
    return folder


def _is_complete(folder: Path, archive: zipfile.ZipFile) -> bool:
    return all(_holds(folder / name, archive.read(name)) for name in archive.namelist())


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
