"""A phase that is stopped and goes on from its checkpoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from points import STEPS, TRAIN, VAL, Watched, network, run, swapped, without_seconds

from edgecls.errors import TrainingError
from edgecls.training import fit as fit_module
from edgecls.training.fit import FitResult
from edgecls.training.run.checkpoint import Checkpoint


class Stop(Exception):
    """Stands for a killed process."""


def stop_at(wanted: int) -> Callable[[int], None]:
    def stop(batch: int) -> None:
        if batch == wanted:
            raise Stop

    return stop


# Everything that has a state: dropout, normalization, plateau, decay, early stopping.
ALL: dict[str, Any] = {
    "schedule": "plateau",
    "warmup_epochs": 1,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "clip_norm": 1.0,
    "epochs": 9,
    "patience": 7,
    "learning_rate": 0.02,
}


def sick() -> keras.Model:
    return network(8, dropout=0.4, batch_norm=True)


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[keras.Model, FitResult]:
    # Validation labels that nothing can learn: the best epoch comes early, and early stopping counts.
    return run(sick(), val=swapped(VAL), **ALL)


@pytest.mark.parametrize(
    ("within", "stops"),
    [
        (False, [3 * STEPS - 1, 1]),
        (False, [6 * STEPS]),
        (True, [0, 1]),
        (True, [2, STEPS + 3]),
        (True, [6 * STEPS + 2]),
    ],
    ids=str,
)
def test_a_resumed_phase_ends_like_an_uninterrupted_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[keras.Model, FitResult],
    stops: list[int],
    within: bool,
) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0 if within else 1e9)
    checkpoint = Checkpoint(tmp_path / "checkpoint-classifier.npz")
    for wanted in stops:
        with pytest.raises(Stop):
            run(sick(), train=Watched(TRAIN, stop_at(wanted)), val=swapped(VAL), checkpoint=checkpoint, **ALL)
    train = Watched(TRAIN, lambda _: None)
    model, result = run(sick(), train=train, val=swapped(VAL), checkpoint=checkpoint, **ALL)
    expected_model, expected = uninterrupted
    assert without_seconds(result.history) == without_seconds(expected.history)
    for now, then in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)
    fields = ("best_epoch", "best_loss", "best_accuracy", "start_accuracy", "ended")
    assert [getattr(result, name) for name in fields] == [getattr(expected, name) for name in fields]
    # What was done before the last stop is not done again: all of it, or what a finished epoch has saved.
    total, before = STEPS * len(expected.history), sum(stops)
    assert train.batches == (total - before if within else total - sum(stop // STEPS * STEPS for stop in stops))


def test_a_finished_phase_is_not_repeated(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint-classifier.npz")
    model, result = run(checkpoint=checkpoint)
    never = Watched(TRAIN, lambda _: pytest.fail("trained again"))
    again, found = run(train=never, checkpoint=checkpoint)
    assert found == result
    for now, then in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, state: arrays.update({"now/x": arrays.pop("now/0")}),
        lambda arrays, state: arrays.update({"now/0": arrays["now/0"].T[:1]}),
        lambda arrays, state: state.update({"later": 1}),
        lambda arrays, state: state.update({"history": 3}),
        lambda arrays, state: state.pop("running"),
    ],
)
def test_a_whole_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, change: Callable[..., object]) -> None:
    """As an edgecls with another format leaves it, or a bit of a name that nothing sums up."""
    checkpoint = Checkpoint(tmp_path / "checkpoint-classifier.npz")
    run(epochs=1, checkpoint=checkpoint)
    saved = checkpoint.read()
    assert saved is not None
    change(saved.arrays, saved.state)
    checkpoint.write(saved.arrays, saved.state)
    with pytest.raises(TrainingError, match=rf"{checkpoint.path} is damaged .*; delete it to repeat this phase"):
        run(epochs=1, checkpoint=checkpoint)


def test_a_divergence_is_remembered(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint-classifier.npz")
    _, result = run(epochs=9, learning_rate=1e30, schedule="constant", checkpoint=checkpoint)
    _, again = run(epochs=9, learning_rate=1e30, schedule="constant", checkpoint=checkpoint)
    assert again == result and again.divergence is not None


def test_a_long_epoch_is_saved_within_and_a_short_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(Checkpoint, "write", lambda self, arrays, state: written.append(state["running"]["step"]))
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    run(epochs=2, checkpoint=checkpoint)
    assert written == [0, 0]
    written.clear()
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    run(epochs=1, checkpoint=checkpoint)
    assert written == [1, 2, 3, 4, 5, 0]


def test_infinite_and_missing_numbers_survive_a_checkpoint() -> None:
    state = fit_module._State(best_loss=math.inf)
    assert fit_module._State.from_json(dataclasses.asdict(state)) == state
