"""Score an exported file on class folders with a pool; the scores equal those of one process exactly."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.bulk.model import Model, open_model
from edgecls.bulk.shards import Shard, cut_names
from edgecls.images.dataset import decode_row, unreadable
from edgecls.images.depth import Scale, warn_of_nearly_black
from edgecls.images.folders import check_root
from edgecls.images.layout import FOLDERS, Layout, ScoredImages, list_scored
from edgecls.images.leftovers import LeftOut
from edgecls.model_file.read import read_model_file
from edgecls.parallel.pool import Pool


def score_all(
    model: Model,
    data: Path,
    pool: Pool,
    *,
    layout: Layout = FOLDERS,
    left_out: LeftOut | None = None,
    report: Callable[[str], object] = lambda note: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[ScoredImages, NDArray[np.float32]]:
    """Return what `list_scored` finds in `data`, and a file's scores of these images, float32 (N, C).

    Args:
        model: of `model.pack_model`.
        data: folder, at the same path for every worker.
        pool: scores the images.
        layout: what the folders do not say.
        left_out: counts the files that are not scored.
        report: called with each sentence about how they were read.
        progress: called with (images done, images in all).

    Raises:
        DataError: folders and classes differ, or images cannot be read. EdgeclsError: as the pool raises it.
    """
    root, classes = check_root(data), read_model_file(model.data).spec.labels
    found = list_scored(root, classes, layout, left_out)
    for note in found.notes:
        report(note)
    shards = cut_names(path for path, _ in found.samples)
    parts, done = [], 0
    # In order, because sums of floats depend on it.
    for shard, part in pool.map(score_shard, dataclasses.replace(model, folder=root), shards, in_order=True):
        parts.append(part)
        progress(done := done + len(shard.names), len(found.samples))
    scores, faults, scales = zip(*parts, strict=True)
    if any(faults):
        raise unreadable(root, list(itertools.chain(*faults)))
    warn_of_nearly_black(itertools.chain(*scales))
    return found, np.concatenate(scores)


def score_shard(model: Model, shard: Shard) -> tuple[NDArray[np.float32], list[str], list[Scale]]:
    """Return the scores, float32 (N, C), of the readable images of a shard, and the errors of the others.

    The last value is of the images of more than 8 bits.
    """
    classifier = open_model(model)
    spec = classifier.spec
    image = np.zeros((1, spec.height, spec.width, 1), np.uint8)
    scores, faults = [np.zeros((0, len(spec.labels)), np.float32)], []
    scales: list[Scale] = []
    for name in shard.names:
        if fault := decode_row(model.folder, name, image[0], spec.preprocessing, scales):
            faults.append(fault)
        else:
            scores.append(classifier.scores(image))
    return np.concatenate(scores), faults, scales
