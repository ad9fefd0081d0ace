"""The plots of the report, drawn from the content of a run folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecls.report import plots
from edgecls.report.layers_plot import draw_layers
from edgecls.report.pictures import HeldOut
from edgecls.report.svg import draw_svg
from edgecls.training.run import run_folder

BINS = 20
WORDS = {
    "loss": "Loss of training and validation images over the epochs",
    "accuracy": "Accuracy of training and validation images over the epochs",
    "layers": "Update ratios and gradient norms of each layer over the epochs",
    "confusion": "Confusion matrix: true classes in rows, predicted classes in columns",
    "recall": "Recall of each class with its 95 % interval",
    "scores": "Histograms of the scores of correct and of incorrect predictions",
}


def draw_plots(run: Path, record: dict[str, Any], held_out: HeldOut) -> dict[str, dict[str, Any]]:
    """Return the plots that the run allows by name, each with `svg`, an element, and `width`, in CSS pixels."""
    history, phases = run_folder.read_history(run), record.get("phases", [])
    draws: dict[str, Callable[[Path], object]] = {}
    for name in ("loss", "accuracy") if history else ():
        draws[name] = partial(plots.draw_curves, history, phases=phases, names=[name])
    if any(epoch.layers for epoch in history):
        draws["layers"] = partial(draw_layers, history)
    draws["confusion"] = partial(plots.draw_confusion, held_out.evaluation)
    draws["recall"] = partial(plots.draw_recall, held_out.evaluation)
    draws["scores"] = partial(plots.draw_scores, _count_scores(held_out), label="score of the predicted class")
    found = {}
    for name, draw in draws.items():
        svg, width = draw_svg(name, WORDS[name], draw)
        found[name] = {"svg": svg, "width": round(width)}
    return found


def _count_scores(held_out: HeldOut) -> dict[str, list[int]]:
    """Return the number of correct and of incorrect predictions by score, in `BINS` equal bins from 0 to 1."""
    best, correct = np.clip(held_out.scores.max(1), 0, 1), held_out.scores.argmax(1) == held_out.labels
    groups = {"correct": best[correct], "incorrect": best[~correct]}
    return {name: np.histogram(group, BINS, (0, 1))[0].tolist() for name, group in groups.items()}
