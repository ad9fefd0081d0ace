"""The images that an exported file predicts incorrectly, or labels differently than the float model, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.evaluate import write_mistakes
from edgecls.export import export_folder
from edgecls.export.calibration import ExportSamples
from edgecls.images.contact_sheet import LARGE, LARGE_COLUMNS, contact_sheet
from edgecls.images.dataset import load_paths
from edgecls.preprocessing import Preprocessing

MAX_FLIPS_SHOWN = 24


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What a file and the float model say of the held-out images; both scores are float32 (N, C)."""

    samples: ExportSamples
    classes: Sequence[str]
    scores: NDArray[np.float32]
    float_scores: NDArray[np.float32]
    preprocessing: Preprocessing


def write_tables(found: Mistakes, folder: Path, precision: str, kind: str) -> str:
    """Write two tables of images, the incorrect and the differently labeled ones; return the name of the first."""
    name, images = export_folder.mistakes_name(precision, kind), found.samples.held_out
    for table, flips in ((name, False), (export_folder.flips_table_name(precision, kind), True)):
        scores = found.scores, found.float_scores
        write_mistakes(folder / table, images.paths, images.labels, found.classes, *scores, flips=flips)
    return name


def draw_flips(found: Mistakes, path: Path) -> str:
    """Draw the images that the file labels differently; return the picture's name, or "" if there are none."""
    labels, images = found.scores.argmax(1), found.samples.held_out
    flipped = np.flatnonzero(labels != found.float_scores.argmax(1))[:MAX_FLIPS_SHOWN]
    if not len(flipped):
        return ""
    paths, truth = [images.paths[i] for i in flipped], images.labels[flipped].tolist()
    # At the size of the picture: a defect may not be visible in what the network gets.
    large = load_paths(found.samples.root, paths, truth, LARGE, LARGE, preprocessing=found.preprocessing)
    sheet = contact_sheet(
        large.images,
        [found.classes[i] for i in labels[flipped]],
        [found.classes[i] for i in truth],
        found.scores[flipped].max(1).tolist(),
        LARGE_COLUMNS,
        names=paths,
    )
    sheet.save(path)
    return path.name
