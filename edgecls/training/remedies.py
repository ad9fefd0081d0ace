"""What a remedy of the diagnosis would give, where the run can measure it at once: the classifier learns again.

Only a classifier on cached features is learned again, which takes seconds, and it is judged on the validation images.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.evaluate import Evaluation, score
from edgecls.messages.numbers import percent
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights
from edgecls.progress import silent
from edgecls.training.context import Context
from edgecls.training.diagnosis.finding import Finding
from edgecls.training.phases import phase_names, score_classifier

# A first phase that took longer is not repeated.
LONGEST_PHASE_SECONDS = 60.0
# Of the measure that a remedy is for; less is no gain.
LEAST_GAIN = 0.005


def measure_effects(
    findings: Sequence[Finding], context: Context, weights: Weights | None, phase_seconds: float
) -> tuple[Finding, ...]:
    """Return the findings with the measured effect of their remedies; one that does not help comes last in its text.

    Args:
        findings: of the diagnosis.
        context: of the run.
        weights: of the backbone.
        phase_seconds: that the first phase took.
    """
    late = context.deadline is not None and time.monotonic() + 2 * phase_seconds > context.deadline
    can = phase_names(context.config)[0] == "classifier" and context.workers.count == 1
    if late or not can or phase_seconds > LONGEST_PHASE_SECONDS or not any(each.settings for each in findings):
        return tuple(findings)
    before, measured = _try(context.config, context, weights), []
    for number, finding in enumerate(findings):
        context.progress("try remedies", number, len(findings))
        if finding.settings and (config := _change(context.config, finding.settings)):
            finding = _add_effect(finding, before, _try(config, context, weights))
        measured.append(finding)
    context.progress("try remedies", len(findings), len(findings))
    return tuple(measured)


def _change(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig | None:
    """Return other settings; None if they contradict what the user gave, such as a solver."""
    try:
        return dataclasses.replace(config, **settings)
    except ConfigError:
        return None


def _try(config: TrainConfig, context: Context, weights: Weights | None) -> Evaluation:
    """Return the metrics of a new classifier of other settings on the validation images."""
    model = build_model(config, len(context.dataset.classes), weights)
    trial = dataclasses.replace(
        context, model=model, config=config, work=None, progress=silent, on_epoch=lambda _: None
    )
    return score(score_classifier(trial), context.dataset.val.labels, context.dataset.classes)


def _add_effect(finding: Finding, before: Evaluation, after: Evaluation) -> Finding:
    measures = {"accuracy": (before.accuracy, after.accuracy), "mean recall": (_recall(before), _recall(after))}
    shown = [f"{name} {percent(old)} -> {percent(new)}" for name, (old, new) in measures.items()]
    shown.append(f"calibration error {before.ece:.2f} -> {after.ece:.2f}")
    option, _, rest = finding.remedy.partition(", or ")
    gain = before.ece - after.ece if finding.name == "calibration" else _recall(after) - _recall(before)
    effect = f"{option}, tried on the classifier alone with the validation images: {', '.join(shown)}."
    if gain >= LEAST_GAIN:
        return dataclasses.replace(finding, effect=effect)
    remedy = f"{rest[:1].upper()}{rest[1:]}" if rest[:1].isalpha() else rest
    return dataclasses.replace(finding, remedy=remedy, effect=f"{effect} It does not help.")


def _recall(evaluation: Evaluation) -> float:
    recalls = [each.recall for each in evaluation.per_class.values() if each.recall is not None]
    return float(np.mean(recalls))
