"""What a remedy would give is measured by letting the classifier learn again."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phase_run import CONFIG, DATA, build

from edgecls.networks.weights import Weights
from edgecls.training import remedies
from edgecls.training.context import Context
from edgecls.training.diagnosis.finding import Finding
from edgecls.training.remedies import measure_effects

BALANCE = Finding(
    "imbalance", "warning", "Small.", "--balance, or more images of the small classes.", {"balance": True}
)
OTHER = Finding("overfitting", "warning", "Overfits.", "more images")
WEIGHTS = Weights("none", None, None, "keras")


def context(**changes: Any) -> Context:
    names = {field.name for field in dataclasses.fields(Context)}
    options = {name: changes.pop(name) for name in list(changes) if name in names}
    config = dataclasses.replace(CONFIG, **changes)
    return Context(build(config), DATA, config, **options)


def answers(correct: tuple[int, int, int], certainty: float = 0.9) -> np.ndarray:
    """Scores of the 18 validation images, of which so many of each class are correct; the others are the next class."""
    predicted, seen = [], [0, 0, 0]
    for label in DATA.val.labels.tolist():
        predicted.append(label if seen[label] < correct[label] else (label + 1) % 3)
        seen[label] += 1
    scores = np.full((18, 3), (1 - certainty) / 2, np.float32)
    scores[np.arange(18), predicted] = certainty
    return scores


def measured(
    monkeypatch: pytest.MonkeyPatch, finding: Finding, before: np.ndarray, after: np.ndarray
) -> tuple[Finding, ...]:
    changed = list(finding.settings)

    def score_classifier(trial: Context) -> np.ndarray:
        same = all(getattr(trial.config, name) == getattr(CONFIG, name) for name in changed)
        return before if same else after

    monkeypatch.setattr(remedies, "score_classifier", score_classifier)
    monkeypatch.setattr(remedies, "build_model", lambda *_: None)
    return measure_effects([OTHER, finding], context(), WEIGHTS, 1.0)


def test_a_remedy_that_helps_stays_first_with_its_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    other, found = measured(monkeypatch, BALANCE, answers((6, 6, 2)), answers((6, 5, 5)))
    assert other == OTHER and found.remedy == BALANCE.remedy
    assert found.effect.startswith("--balance, tried on the classifier alone")
    assert "accuracy 77.8 % -> 88.9 %, mean recall 77.8 % -> 88.9 %" in found.effect
    assert "does not help" not in found.effect


def test_a_remedy_that_does_not_help_is_no_longer_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = measured(monkeypatch, BALANCE, answers((6, 6, 4)), answers((6, 5, 4)))
    assert found.remedy == "More images of the small classes." and found.effect.endswith("It does not help.")


def test_calibration_is_judged_by_its_own_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding(
        "calibration", "warning", "High.", "--label-smoothing 0.1, or more images.", {"label_smoothing": 0.1}
    )
    _, found = measured(monkeypatch, finding, answers((5, 5, 4), 0.99), answers((5, 5, 4), 0.8))
    assert "calibration error 0.21 -> 0.02" in found.effect and "does not help" not in found.effect


def test_a_real_classifier_learns_again_and_the_network_stays(tmp_path: Path) -> None:
    before = context(cache=tmp_path)
    weights = [weight.copy() for weight in before.model.get_weights()]
    stages: list[str] = []
    here = dataclasses.replace(before, progress=lambda stage, *_: stages.append(stage))
    (found,) = measure_effects([BALANCE], here, WEIGHTS, 1.0)
    assert "tried on the classifier alone" in found.effect and set(stages) == {"try remedies"}
    for now, then in zip(before.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"arch": "cnn", "blocks": None, "effort": None}, 1.0),
        ({}, remedies.LONGEST_PHASE_SECONDS + 1),
        ({"deadline": time.monotonic()}, 1.0),
    ],
)
def test_what_takes_long_is_not_tried(changes: dict[str, Any], seconds: float) -> None:
    assert measure_effects([BALANCE], context(**changes), WEIGHTS, seconds) == (BALANCE,)
    assert measure_effects([OTHER], context(), WEIGHTS, 1.0) == (OTHER,)


def test_an_option_that_contradicts_the_settings_is_not_tried(tmp_path: Path) -> None:
    smooth = Finding("calibration", "warning", "High.", "--label-smoothing 0.1", {"label_smoothing": 0.1})
    solved = {"solver": "lbfgs", "epochs": 60, "batch_size": 32, "learning_rate": None, "schedule": None}
    assert measure_effects([smooth], context(cache=tmp_path, **solved), WEIGHTS, 1.0) == (smooth,)
