"""Phases that do not help, that have little time, and that go on after an interruption."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import pytest
from phase_run import SWAPPED, Ran, assert_same_weights, run, stages_of

from edgecls.training import phases as phases_module
from edgecls.training.fit import FitResult, fit
from edgecls.training.history import Divergence, EpochRecord


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def head(cache: Path) -> Ran:
    return run(cache)


# Phases that do not help


def test_a_phase_that_does_not_help_is_discarded_and_said_so(cache: Path) -> None:
    # What the head learns of the training images is no help here, nor is it better to learn it further.
    ran = run(cache, SWAPPED, epochs=1, augmented_copies=0, unfreeze=1, fine_learning_rate=0.01)
    head, unfreeze = ran.training.phases
    # An untrained head is nothing to go back to.
    assert head.kept and head.best_epoch == 1
    assert not unfreeze.kept and unfreeze.best_epoch == 0
    assert unfreeze.reason.endswith("; discarded: it did not help on the validation images")
    assert unfreeze.val_accuracy_after == unfreeze.val_accuracy_before
    assert ran.changed == {"scores"} and ran.training.train_scores is not None


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Let the phase `name` end with another result than it had."""

    def spoilt(learner: keras.Model, train: Any, val: Any, recipe: Any, **options: Any) -> FitResult:
        result = fit(learner, train, val, recipe, **options)
        return dataclasses.replace(result, **changes) if recipe.phase == name else result

    monkeypatch.setattr(phases_module, "fit", spoilt)


@pytest.mark.parametrize("changes", [{"best_epoch": 0}, {"best_accuracy": 0.1}])
def test_a_harmful_phase_leaves_what_the_head_has_learned(
    cache: Path, head: Ran, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    spoil(monkeypatch, "fine-tuning", **changes)
    ran = run(cache, unfreeze=1, fine_epochs=1)
    first, _, second = ran.training.phases
    assert first.kept and not second.kept and "discarded" in second.reason
    assert second.val_accuracy_after == second.val_accuracy_before
    # The scores of the training images are still those of the network that is kept.
    assert ran.training.train_scores is not None
    assert_same_weights(ran, head)


def test_no_phase_follows_a_divergence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divergence = Divergence("classifier", 3, 1, "loss", None)
    spoil(monkeypatch, "classifier", divergence=divergence)
    training = run(cache, unfreeze=1, joint=True).training
    assert [phase.name for phase in training.phases] == ["classifier"] and training.divergence == divergence
    assert training.phases[0].kept


# Time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one number that a test may change."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_when_time_is_up_no_other_phase_begins(cache: Path, clock: list[float]) -> None:
    def pass_time(history: list[EpochRecord]) -> None:
        clock[0] += 10

    (phase,) = run(cache, unfreeze=1, joint=True, deadline=1015.0, on_epoch=pass_time).training.phases
    assert phase.name == "classifier" and phase.epochs == 3 and phase.reason.startswith("the time budget is spent")


def test_however_little_time_there_is_the_first_phase_runs(cache: Path, clock: list[float]) -> None:
    (phase,) = run(cache, deadline=0.0, unfreeze=1).training.phases
    assert phase.epochs == 1 and phase.reason.startswith("the time budget is spent")


def test_augmented_copies_take_at_most_their_share_of_the_time(tmp_path: Path, clock: list[float]) -> None:
    calls: list[tuple[Any, ...]] = []

    def pass_time(stage: str, done: int, total: int, note: str = "") -> None:
        calls.append((stage,))
        if done == total and "features of" in stage:
            clock[0] += 10

    run(tmp_path, augmented_copies=9, deadline=1000.0 + 20 + 50, progress=pass_time, epochs=1)
    # 20 s for the images themselves; a third copy would end beyond half of the 50 s that are left.
    assert [stage for stage in stages_of(calls) if "of copy" in stage] == [
        "augmented: features of copy 1 of 9",
        "augmented: features of copy 2 of 9",
    ]


# Checkpoints


def test_each_phase_has_a_checkpoint_and_goes_on_from_it(cache: Path, tmp_path: Path) -> None:
    expected = run(cache, unfreeze=1, work=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"checkpoint-{name}.npz" for name in ("classifier", "augmented", "fine-tuning")
    }
    (tmp_path / "checkpoint-fine-tuning.npz").unlink()
    phases: list[str] = []
    again = run(cache, unfreeze=1, work=tmp_path, on_epoch=lambda so_far: phases.append(so_far[-1].phase))
    assert phases == ["fine-tuning"] * 2
    assert len(again.training.history) == len(expected.training.history) == 10
    assert_same_weights(again, expected)
