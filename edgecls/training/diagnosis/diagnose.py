"""A doctor for the fit: what went wrong in a training run, in plain words, and what to try next.

Judges what the run noted (`history.py`) and what the trained network says of its images. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.training.diagnosis.curves import Guess, generalisation_findings, progress_findings, rate_findings
from edgecls.training.diagnosis.finding import SEVERITIES, Finding, Scored
from edgecls.training.diagnosis.layers import layer_findings
from edgecls.training.diagnosis.scores import held_out_findings, score_findings
from edgecls.training.history import Divergence, EpochRecord

# A network that learns little, or slowly, because of one of these has that illness, not another one besides.
CAUSES = frozenset(
    {
        "not-finite",
        "vanishing-gradients",
        "exploding-gradients",
        "dead-relus",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "imbalance",
    }
)
CONSEQUENCES = frozenset({"underfitting", "too-few-epochs"})
# Where these are, it is not for the step size that steps are small.
STIFF = frozenset({"not-finite", "vanishing-gradients", "exploding-gradients", "dead-relus"})
HEALTHY = Finding(
    "healthy",
    "note",
    "Nothing went wrong that can be seen: gradients, losses and the gap between training and validation images are as "
    "they should be.",
    "None is needed.",
)


def diagnose(
    history: Sequence[EpochRecord],
    config: TrainConfig,
    classes: Sequence[str],
    *,
    divergence: Divergence | None = None,
    train: Scored | None = None,
    val: Scored | None = None,
    test: Scored | None = None,
    train_labels: NDArray[np.integer[Any]] | None = None,
) -> tuple[Finding, ...]:
    """Return what is wrong with a run, the worst first; "healthy" heads the notes if nothing is wrong.

    Args:
        history: all epochs of all phases, in order; a phase judged harmful and undone may be left out.
        config: of the run.
        classes: the labels in the order of the scores.
        divergence: what was not finite, if anything.
        train: the kept network's scores on the training images, without dropout and augmentation.
        val: its scores on the validation images.
        test: its scores on the test images.
        train_labels: classes of the training images, int (N,), 0..C-1, for a run that did not score them.

    Raises:
        DataError: the scores do not fit the classes.
    """
    for scored in (train, val, test):
        if scored is not None and scored.scores.shape[-1] != len(classes):
            raise DataError(f"scores must have {len(classes)} columns, one a class; received {scored.scores.shape}")
    labels = train.labels if train is not None else np.array([], int) if train_labels is None else train_labels
    guess = Guess.of(labels, len(classes), balanced=config.balance)
    phases = [tuple(records) for _, records in groupby(history, key=lambda record: record.phase)]
    found = list(layer_findings(phases, config, divergence))
    for before, records in zip((None, *phases), phases, strict=False):
        found += rate_findings(records, before[-1] if before else None, config, guess)
    if phases:
        # Views are learned from as the images were before: one pace.
        pace = [record for record in history if record.phase in (history[0].phase, "augmented")]
        found += progress_findings(pace, config, guess, train)
        found += generalisation_findings(phases[-1], config, guess, train, val)
    found += score_findings(config, classes, train, val, labels)
    found += held_out_findings(val, test)
    return _tell(found, judged=bool(history))


def add_findings(found: Sequence[Finding], others: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings with those of the images themselves among them, the worst first."""
    kept = [finding for finding in found if not others or finding is not HEALTHY]
    return tuple(sorted([*others, *kept], key=lambda finding: SEVERITIES.index(finding.severity)))


def _tell(found: Sequence[Finding], *, judged: bool) -> tuple[Finding, ...]:
    """Return the findings the worst first, without mere consequences of others."""
    names = {finding.name for finding in found}
    hidden = CONSEQUENCES if names & CAUSES else frozenset()
    if names & STIFF:
        hidden |= {"learning-rate-too-low"}
    kept = [finding for finding in found if finding.name not in hidden]
    kept.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    if judged and all(finding.severity == "note" for finding in kept):
        kept.insert(0, HEALTHY)
    return tuple(kept)
