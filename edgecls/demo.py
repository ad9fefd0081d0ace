"""The demo: train, export and evaluate a classifier on the images in the package; all files go into one folder."""

from __future__ import annotations

import operator
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecls.config import ExportConfig, TrainConfig
from edgecls.errors import ConfigError, DataError
from edgecls.images.contact_sheet import contact_sheet
from edgecls.images.dataset import load_labeled
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import load

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult
    from edgecls.training.diagnosis.finding import Finding

# Small enough for a minute on a laptop, large enough to tell ten kinds of clothing apart.
TRAIN_CONFIG = TrainConfig(image_size=128, effort="quick")
EXPORT_CONFIG = ExportConfig(precisions=("fp32", "int8"))
SHOWN_PER_CLASS = 4


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, all in one folder."""

    run: Path  # the run folder
    export: ExportResult  # of the run
    file: Path  # the int8 TFLite file
    image: Path  # one of the test images
    sheet: Path  # PNG of test images with their predicted labels
    correct: int  # how many of these are correct
    shown: int  # how many there are
    page: Path  # the report of the run
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]  # the diagnosis of the run


def run_demo(out: Path, progress: Progress = silent) -> DemoResult:
    """Train on the packaged images, export the run, draw test images with their predicted labels, all in `out`.

    What an earlier demo left there is replaced.

    Raises:
        ConfigError: it was left by something else. DataError: `out` cannot be written.
    """
    from edgecls.export.artifact import export_run
    from edgecls.report.page import write_report
    from edgecls.report.pictures import PICTURES
    from edgecls.training.run.work_folder import work_folder
    from edgecls.training.train import train

    run, sheet, images = out / "run", out / "contact-sheet.png", out / "images"
    # A demo unpacks the images first.
    if not images.exists() and (others := [path for path in (run, work_folder(run), sheet) if path.exists()]):
        raise ConfigError(
            f"{others[0]} was not made by the demo and would be replaced; give --out a new or an empty folder"
        )
    unpack_demo_data(images)
    trained = train(images, run, TRAIN_CONFIG, overwrite=True, pictures=PICTURES, progress=progress)
    exported = export_run(run, EXPORT_CONFIG, progress=progress)
    written = next(file for file in exported.files if (file.precision, file.format) == ("int8", "tflite"))
    file = exported.folder / written.path
    correct, shown = _draw_sheet(file, images, sheet)
    image, page = min(images.glob("test/*/*.png")), write_report(run)
    found = trained.warnings, trained.findings
    return DemoResult(run, exported, file, image, sheet, correct, shown, page, *found)


def _draw_sheet(file: Path, images: Path, sheet: Path) -> tuple[int, int]:
    """Write the PNG, and return how many of its images are labeled correctly and how many there are."""
    classifier = load(file)
    spec, labels = classifier.spec, classifier.spec.labels
    split = load_labeled(images, labels, spec.height, spec.width, preprocessing=spec.preprocessing)
    chosen = np.concatenate([np.flatnonzero(split.labels == label)[:SHOWN_PER_CLASS] for label in range(len(labels))])
    predictions = [classifier.classify(image) for image in split.images[chosen]]
    named, truth = [labels[each.index] for each in predictions], [labels[index] for index in split.labels[chosen]]
    picture = contact_sheet(
        split.images[chosen],
        named,
        truth,
        [prediction.score for prediction in predictions],
    )
    picture.save(sheet)
    return sum(map(operator.eq, named, truth)), len(truth)


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
                    f"cannot unpack the demo images into {str(folder)!r}: {error.strerror}; name a new or an empty "
                    "folder"
                ) from error
    return folder


def _is_complete(folder: Path, archive: zipfile.ZipFile) -> bool:
    return all(_has_content(folder / name, archive.read(name)) for name in archive.namelist())


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
