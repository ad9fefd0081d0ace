"""The diagnosis of a training run: a table of rules, and what they find in a run's epochs and scores.

Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.training.diagnosis import curves, held_out, layers, scores
from edgecls.training.diagnosis.evidence import Evidence, split_phases
from edgecls.training.diagnosis.finding import SEVERITIES, Finding, Problem, Scored
from edgecls.training.history import Divergence, EpochRecord


@dataclass(frozen=True)
class Rule:
    """One thing that is checked.

    Attributes:
        causes: names of rules; if one of them finds something, this rule's findings follow from it and are left out.
    """

    name: str  # of its findings
    check: Callable[[Evidence], Iterable[Problem]]  # yields each problem
    causes: frozenset[str] = frozenset()


_UNTRAINABLE = frozenset({"not-finite", "vanishing-gradients", "exploding-gradients", "dead-relus"})
_SLOW = _UNTRAINABLE | {"learning-rate-too-high", "learning-rate-too-low", "imbalance"}
RULES = (
    Rule("not-finite", layers.check_finite),
    Rule("too-short", curves.check_short, _UNTRAINABLE - {"dead-relus"}),
    Rule("vanishing-gradients", layers.check_vanishing),
    Rule("dead-relus", layers.check_dead_relus),
    Rule("exploding-gradients", layers.check_exploding),
    Rule("loss-spikes", curves.check_spikes),
    Rule("learning-rate-too-high", curves.check_high_rate),
    Rule("learning-rate-too-low", curves.check_low_rate, _UNTRAINABLE),
    Rule("too-few-epochs", curves.check_epochs, _SLOW),
    Rule("overfitting", curves.check_overfitting),
    Rule("underfitting", curves.check_underfitting, _SLOW),
    Rule("no-better-than-majority", held_out.check_majority),
    Rule("confused-classes", scores.check_confusion, frozenset({"no-better-than-majority"})),
    Rule("wrong-labels", scores.check_labels),
    Rule("too-few-images", scores.check_class_sizes),
    Rule("imbalance", scores.check_balance, frozenset({"no-better-than-majority"})),
    Rule("images-too-small", held_out.check_side),
    Rule("too-few-validation-images", lambda run: held_out.check_enough(run.val, run)),
    Rule("too-few-test-images", lambda run: held_out.check_enough(run.test, run)),
    Rule("test-below-validation", held_out.check_agreement),
    Rule("validation-below-test", held_out.check_reverse),
    Rule("calibration", held_out.check_calibration, _SLOW | {"no-better-than-majority", "too-short", "underfitting"}),
)
NO_PROBLEMS = Finding("no-problems", "note", "No problems found.", "")


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
    """Return what is wrong with a run, the worst first; nothing without epochs.

    `NO_PROBLEMS` alone means that no rule found anything: on enough validation images, and test images if there are
    any, the network is clearly better than always naming the largest class, and both agree. Without validation scores
    that is not known, and nothing is returned in its place.

    `train`, `val` and `test` are the kept network's scores, without dropout and augmentation; `train_labels`, int (N,),
    0..C-1, replaces `train` in a run that did not score its training images. Discarded phases may be left out of
    `history`.

    Raises:
        DataError: the scores do not fit the classes.
    """
    for scored in (train, val, test):
        if scored is not None and scored.scores.shape[-1] != len(classes):
            raise DataError(f"scores must have {len(classes)} columns, one a class; received {scored.scores.shape}")
    labels = train.labels if train is not None else np.array([], int) if train_labels is None else train_labels
    train, val, test = (part if part is not None and len(part.labels) else None for part in (train, val, test))
    run = Evidence(split_phases(history), config, classes, divergence, train, val, test, labels)
    found = [Finding(rule.name, *problem) for rule in RULES for problem in rule.check(run)]
    names = {finding.name for finding in found}
    causes = {rule.name: rule.causes for rule in RULES}
    found = [finding for finding in found if not names & causes[finding.name]]
    return merge_findings(found) or ((NO_PROBLEMS,) if history and val is not None else ())


def merge_findings(*groups: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return all findings, the worst first, without `NO_PROBLEMS` if there is any other."""
    found = [finding for group in groups for finding in group]
    problems = [finding for finding in found if finding.name != NO_PROBLEMS.name]
    return tuple(sorted(problems or found, key=lambda finding: SEVERITIES.index(finding.severity)))
