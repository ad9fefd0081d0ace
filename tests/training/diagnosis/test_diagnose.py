from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from fit_records import CLASSES, CONFIG, diagnosed, fast_layers, layer, normal_epochs, overfitted, scored, with_layers
from hypothesis import given
from hypothesis import strategies as st

from edgecls.cli.train import train as train_command
from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.training.diagnosis.diagnose import diagnose
from edgecls.training.diagnosis.finding import SEVERITIES, Scored
from edgecls.training.history import Divergence, EpochRecord, LayerRecord


def test_no_problems_of_run_has_one_note() -> None:
    good = np.diag([200] * 4)
    assert list(diagnosed(normal_epochs(), val=scored(good, certainty=0.98))) == ["no-problems"]
    # Without validation scores it is not known.
    assert diagnosed(normal_epochs()) == {}
    assert list(diagnosed(normal_epochs(), train=scored(good, "training"), val=scored(good, certainty=0.98))) == [
        "no-problems"
    ]


def test_without_any_record_nothing_is_said() -> None:
    assert diagnose([], CONFIG, CLASSES) == ()


def test_cause_hides_its_consequence() -> None:
    layers = [tuple(layer(index, dead_share=1.0) for index in range(3))] * 8
    level: dict[str, Any] = {"train_accuracy": [0.25] * 8, "val_accuracy": [0.25] * 8, "train_loss": [1.39] * 8}
    assert list(diagnosed(normal_epochs(8, layers=layers, **level))) == ["dead-relus"]


def test_scores_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(DataError, match="4 columns"):
        diagnose(normal_epochs(), CONFIG, CLASSES, val=Scored("validation", np.full((3, 2), 0.5), np.zeros(3, int)))


def test_every_option_in_a_remedy_exists() -> None:
    options = {name for option in train_command.params for name in (*option.opts, *option.secondary_opts)}
    bad = [
        diagnosed(overfitted(), dataclasses.replace(CONFIG, augment=None)),
        diagnosed(overfitted(), TrainConfig(), val=scored([[50, 50, 0, 0], *np.diag([90] * 4)[1:].tolist()])),
        diagnosed(normal_epochs(8, layers=fast_layers(8), train_loss=[2, 1, 3, 1, 3, 1, 3, 1], val_loss=[1.0] * 8)),
        diagnosed(with_layers(*(layer(index, 10.0 ** (index - 6)) for index in range(6)))),
        diagnosed(with_layers(layer(0, 1e6), layer(1, dead_share=1.0))),
        diagnosed([], divergence=Divergence("network", 1, 0, "loss", None)),
        diagnosed(normal_epochs(largest_step_loss=[1, *[99] * 11])),
        diagnosed([*normal_epochs(), *normal_epochs(3, "fine-tuning", train_loss=[5, 3, 2])], TrainConfig(unfreeze=3)),
        diagnosed(normal_epochs(), train_labels=np.repeat(range(4), [900, 30, 30, 30]), val=scored([[9, 0, 0, 0]] * 4)),
        *(
            diagnosed(normal_epochs(5, train_accuracy=[0.3] * 5, val_accuracy=[0.3] * 5), config)
            for config in (TrainConfig(alpha=0.35, l2=1e-3), CONFIG)
        ),
    ]
    remedies = [finding.remedy for found in bad for finding in found.values()]
    used = {option for remedy in remedies for option in re.findall(r"--[a-z0-9-]+", remedy)}
    assert len(used) > 15
    assert used <= options, used - options


numbers = st.floats(allow_nan=True, allow_infinity=True)
layer_records = st.builds(LayerRecord, st.sampled_from("abc"), numbers, numbers, st.none() | st.floats(0, 1))
records = st.builds(
    EpochRecord,
    phase=st.sampled_from(["classifier", "augmented", "joint", "fine-tuning", "network", "head"]),
    epoch=st.integers(1, 99),
    train_loss=numbers,
    train_accuracy=st.floats(0, 1),
    val_loss=numbers,
    val_accuracy=st.floats(0, 1),
    learning_rate=st.floats(0, 1),
    largest_step_loss=numbers,
    seconds=st.floats(0, 1e6),
    layers=st.lists(layer_records, max_size=5).map(tuple),
)


@pytest.mark.filterwarnings("error")
@given(st.lists(records, max_size=8))
def test_any_history_gets_an_ordered_answer(history: list[EpochRecord]) -> None:
    found = diagnose(history, CONFIG, CLASSES, val=scored(np.diag([50] * 4), certainty=0.98))
    severities = [SEVERITIES.index(finding.severity) for finding in found]
    assert severities == sorted(severities)
    problems = any(finding.name != "no-problems" for finding in found)
    assert ("no-problems" in {finding.name for finding in found}) == (bool(history) and not problems)
