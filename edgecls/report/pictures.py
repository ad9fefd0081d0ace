"""The pictures of a run: their files, and what each is drawn from. Imports no TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError
from edgecls.evaluate import Evaluation, score
from edgecls.files import write_rendered
from edgecls.images.contact_sheet import LARGE, LARGE_COLUMNS, contact_sheet, preview_sheet
from edgecls.images.dataset import load_paths
from edgecls.preprocessing import read_preprocessing
from edgecls.report.layers_plot import draw_layers
from edgecls.report.plots import draw_confusion, draw_curves, draw_recall
from edgecls.training.context import Pictures
from edgecls.training.run import run_folder

# draw_final draws all but the preview, which needs the training images.
NAMES = ("curves", "layers", "confusion", "recall", "mistakes", "preview")
MOST_MISTAKES = 24


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out images of a run and the scores, float32 (N, C), that the float model gives them."""

    split: str  # "test" or "val"
    paths: tuple[str, ...]  # relative to the folder of images
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    evaluation: Evaluation


def picture_path(run: Path, name: str) -> Path:
    """Return the path of the picture `name`, one of `NAMES`, in the run folder."""
    return run / run_folder.PICTURES_FOLDER / f"{name}.png"


def read_held_out(run: Path, record: dict[str, Any]) -> HeldOut:
    """Return the labels and scores of the held-out images; the images themselves are not read.

    Raises:
        ModelFileError: the scores are missing or damaged.
    """
    split, classes = record["held_out"]["split"], record["classes"]
    paths = [(path, index) for index, name in enumerate(classes) for path in record["split"][split][name]]
    scores = run_folder.read_held_out_scores(run, len(paths), len(classes))
    labels = np.array([index for _, index in paths], np.int64)
    return HeldOut(split, tuple(path for path, _ in paths), labels, scores, score(scores, labels, classes))


def draw_final(run: Path) -> dict[str, str]:
    """Write every picture that the content of the run folder allows; return why one is missing: name -> reason.

    Raises:
        MissingDependency: Matplotlib is not installed.
        ModelFileError: the run folder is damaged.
    """
    record, history, missing = run_folder.read_whole_record(run), run_folder.read_history(run), {}
    if history:
        draw_curves(history, picture_path(run, "curves"), record.get("phases", []))
    else:
        old = f"The run has no {run_folder.HISTORY_FILE}: it was trained by an older edgecls."
        missing["curves"] = "The model was trained elsewhere." if "imported" in record else old
    if any(epoch.layers for epoch in history):
        draw_layers(history, picture_path(run, "layers"))
    else:
        missing["layers"] = "Gradients and updates of the layers were not recorded."
    held_out = read_held_out(run, record)
    draw_confusion(held_out.evaluation, picture_path(run, "confusion"))
    draw_recall(held_out.evaluation, picture_path(run, "recall"))
    mistakes = find_mistakes(held_out)
    if not len(mistakes):
        missing["mistakes"] = f"All {len(held_out.labels)} images are classified correctly."
        return missing
    try:
        _draw_mistakes(run, record, held_out, mistakes)
    except DataError as error:
        # The images may have been moved or deleted since training; the rest of the report does not need them.
        missing["mistakes"] = f"The images can no longer be read: {error}"
    return missing


def find_mistakes(held_out: HeldOut) -> NDArray[np.int64]:
    """Return the positions of incorrect predictions, at most `MOST_MISTAKES`, the most confident first."""
    wrong = np.flatnonzero(held_out.scores.argmax(1) != held_out.labels)
    return wrong[np.argsort(-held_out.scores[wrong].max(1), kind="stable")][:MOST_MISTAKES]


def _draw_mistakes(run: Path, record: dict[str, Any], held_out: HeldOut, chosen: NDArray[np.int64]) -> None:
    preprocessing, classes = read_preprocessing(record["config"]), record["classes"]
    labels = held_out.labels[chosen].tolist()
    paths = [held_out.paths[index] for index in chosen]
    # At the size of the picture: a defect may not be visible in what the network gets.
    split = load_paths(Path(record["data"]), paths, labels, LARGE, LARGE, preprocessing=preprocessing)
    scores = held_out.scores[chosen]
    sheet = contact_sheet(
        split.images,
        [classes[index] for index in scores.argmax(1)],
        [classes[label] for label in labels],
        scores.max(1).tolist(),
        LARGE_COLUMNS,
        names=paths,
    )
    _save(sheet, picture_path(run, "mistakes"))


def draw_preview(
    originals: NDArray[np.uint8],
    copies: Sequence[NDArray[np.uint8]],
    path: Path,
    borders: Sequence[NDArray[np.float64]] = (),
    settings: str = "",
) -> None:
    """Write what augmentation does to images as PNG; the arguments are those of `preview_sheet`.

    Raises:
        DataError: there is no image.
    """
    _save(preview_sheet(originals, copies, borders, settings), path)


def _save(picture: Image.Image, path: Path) -> None:
    # Optimized, it would be a seventh smaller and take twelve times as long: a second.
    write_rendered(path, functools.partial(picture.save, format="PNG"))


PICTURES = Pictures(draw_curves, draw_preview, draw_final)
