"""Phases whose classifier is solved: what they record, keep, write and read again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phase_run import CONFIG, DATA, SOLVED, SWAPPED, Ran, assert_same_weights, run

from edgecls.errors import TrainingError
from edgecls.training import solve as module


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def solved(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, list[tuple[Any, ...]], Path]:
    calls: list[tuple[Any, ...]] = []
    work = tmp_path_factory.mktemp("work")
    return run(cache, **SOLVED, work=work, owner="a", progress=lambda *call: calls.append(call)), calls, work


def test_only_the_classifier_changes_and_learns(solved: tuple[Ran, list[tuple[Any, ...]], Path]) -> None:
    ran, calls, _ = solved
    assert ran.changed == {"scores"} and ran.accuracy > 0.6
    classifier, augmented = ran.training.phases
    assert (classifier.name, classifier.solver, classifier.epochs, classifier.best_epoch) == (
        "classifier",
        "lbfgs",
        1,
        1,
    )
    assert classifier.reason == "solved by L-BFGS" and augmented.solver == "lbfgs"
    assert classifier.val_accuracy_after > max(0.6, classifier.val_accuracy_before)
    first = ran.training.history[0]
    assert (first.phase, first.epoch, first.learning_rate, first.layers) == ("classifier", 1, 0, ())
    assert first.train_loss < 1 and first.train_accuracy > 0.6
    assert {call[1:3] for call in calls if call[0].startswith("train")} == {(1, 1)}


def test_a_second_phase_that_does_not_help_is_discarded(cache: Path) -> None:
    # Validation images whose labels contradict the training images: copies make that worse.
    ran = run(cache, SWAPPED, **SOLVED)
    classifier, augmented = ran.training.phases
    assert classifier.kept
    if not augmented.kept:
        assert "discarded" in augmented.reason and augmented.val_accuracy_after == augmented.val_accuracy_before
    assert ran.accuracy == pytest.approx(ran.training.phases[-1].val_accuracy_after, abs=0.06)


def test_it_continues_from_the_kept_solution(
    cache: Path, solved: tuple[Ran, list[tuple[Any, ...]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, _, work = solved
    monkeypatch.setattr(module, "fit_linear", lambda *_, **__: pytest.fail("solved again"))
    again = run(cache, **SOLVED, work=work, owner="a")
    assert_same_weights(again, ran)
    one, two = ([dataclasses.replace(e, seconds=0) for e in each.training.history] for each in (again, ran))
    assert one == two
    with pytest.raises(TrainingError, match="checkpoint-classifier.npz is damaged"):
        run(cache, **SOLVED, work=work, owner="b")


def test_steps_after_the_solution_start_from_it(cache: Path) -> None:
    ran = run(cache, **SOLVED, unfreeze=1, solver="lbfgs")
    classifier, augmented, fine = ran.training.phases
    assert (classifier.solver, augmented.solver, fine.solver) == ("lbfgs", "lbfgs", "sgd")
    assert fine.val_accuracy_before == pytest.approx(augmented.val_accuracy_after, abs=0.06)
    assert ran.training.history[-1].learning_rate < CONFIG.tuning_learning_rate


def test_in_steps_on_request(cache: Path) -> None:
    ran = run(cache, **SOLVED | {"epochs": 2}, solver="sgd")
    assert {phase.solver for phase in ran.training.phases} == {"sgd"} and len(ran.training.history) == 4


def test_balance_counts(cache: Path) -> None:
    few = np.flatnonzero((DATA.train.labels != 0) | (np.arange(len(DATA.train.labels)) < 6))
    train = dataclasses.replace(
        DATA.train,
        images=DATA.train.images[few],
        labels=DATA.train.labels[few],
        paths=tuple(DATA.train.paths[i] for i in few),
    )
    data = dataclasses.replace(DATA, train=train)
    plain, balanced = (run(cache, data, **SOLVED, balance=balance, augment=None) for balance in (False, True))
    assert (plain.after["scores/bias"] != balanced.after["scores/bias"]).any()
