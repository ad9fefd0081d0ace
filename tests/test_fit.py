"""The training loop of one phase, on points in a few dimensions."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from points import CLASSES, Points, blobs, network

from edgecls.training import fit as fit_module
from edgecls.training.checkpoint import Checkpoint
from edgecls.training.fit import PLATEAU_EPOCHS, FitResult, Recipe, fit, rate_at
from edgecls.training.history import EpochRecord

TRAIN, VAL = blobs(90), blobs(60, seed=1)
# 90 points in batches of 16: five whole ones and one of ten.
RECIPE = Recipe("head", epochs=4, batch_size=16, first_rate=0.01)
STEPS = 6


@dataclass
class Watched:
    """Examples that call a function before each batch, with the number of the batch among all of them."""

    points: Points
    before: Callable[[int], None]
    batches: int = 0
    shown: list[tuple[int, list[int]]] = dataclasses.field(default_factory=list)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.points.labels

    def batch(self, epoch: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        self.before(self.batches)
        self.batches += 1
        self.shown.append((epoch, chosen.tolist()))
        return self.points.batch(epoch, chosen)


def run(model: keras.Model | None = None, *, val: Points = VAL, **options: Any) -> tuple[keras.Model, FitResult]:
    names = {field.name for field in dataclasses.fields(Recipe)}
    changes = {name: options.pop(name) for name in list(options) if name in names}
    model = model or network(8)
    train = options.pop("train", TRAIN)
    return model, fit(model, train, val, dataclasses.replace(RECIPE, **changes), **options)


def cross_entropy(model: keras.Model, points: Points) -> float:
    scores = model(points.x).numpy()
    return float(-np.log(scores[np.arange(len(scores)), points.labels]).mean())


def accuracy(model: keras.Model, points: Points) -> float:
    return float((model(points.x).numpy().argmax(1) == points.labels).mean())


def without_seconds(history: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0) for record in history]


def swapped(points: Points) -> Points:
    """Return the points with two classes exchanged."""
    return Points(points.x, np.array([1, 0, 2])[points.labels])


@pytest.fixture(scope="module")
def weights_taught_wrong() -> list[NDArray[np.float32]]:
    model, _ = run(train=swapped(TRAIN), val=swapped(VAL), epochs=8)
    return list(model.get_weights())


@pytest.fixture
def taught_wrong(weights_taught_wrong: list[NDArray[np.float32]]) -> keras.Model:
    """A network that has learned `swapped` points: what it learns of the others makes it worse on those."""
    model = network(8)
    model.set_weights(weights_taught_wrong)
    return model


# Learning


def test_the_points_are_learned_and_every_epoch_noted() -> None:
    start = accuracy(network(8), VAL)
    model, result = run(epochs=8)
    assert result.ended == "all epochs done" and result.divergence is None
    assert result.start_accuracy == pytest.approx(start)
    assert result.best_accuracy > max(0.8, start)
    assert [(record.phase, record.epoch) for record in result.history] == [("head", n) for n in range(1, 9)]
    first, last = result.history[0], result.history[-1]
    assert last.train_loss < first.train_loss and last.val_loss < first.val_loss
    assert last.train_accuracy > 0.8
    assert all(record.largest_step_loss >= record.train_loss and record.seconds > 0 for record in result.history)
    assert [layer.name for layer in last.layers] == ["hidden_1", "scores"]
    assert all(layer.gradient_norm > 0 and layer.update_ratio > 0 for layer in last.layers)
    assert last.layers[0].dead_share is not None and last.layers[1].dead_share is None


def test_every_example_is_shown_once_an_epoch_in_an_order_of_its_own() -> None:
    train = Watched(TRAIN, lambda _: None)
    run(train=train, epochs=2)
    assert [epoch for epoch, _ in train.shown] == [1] * STEPS + [2] * STEPS
    orders = [[n for epoch, chosen in train.shown for n in chosen if epoch == wanted] for wanted in (1, 2)]
    assert orders[0] != orders[1] and [sorted(order) for order in orders] == [list(range(90))] * 2


def test_the_seed_decides_the_order_and_nothing_else_is_random() -> None:
    results = [run(network(8, dropout=0.3), seed=seed, epochs=2) for seed in (1, 1, 2)]
    (first, one), (same, again), (other, _) = results
    assert without_seconds(one.history) == without_seconds(again.history)
    for a, b in zip(first.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


def test_fewer_examples_than_a_batch_are_one_step() -> None:
    few = Points(TRAIN.x[:5], TRAIN.labels[:5])
    _, result = run(train=few, val=few, epochs=2, batch_size=16)
    assert len(result.history) == 2 and result.history[-1].train_loss < result.history[0].train_loss


def test_each_epoch_is_told_with_the_result_so_far() -> None:
    told: list[tuple[EpochRecord, FitResult]] = []
    _, result = run(on_epoch=lambda record, so_far: told.append((record, so_far)))
    assert [record for record, _ in told] == list(result.history)
    assert [len(so_far.history) for _, so_far in told] == [1, 2, 3, 4]
    assert told[-1][1].best_loss == result.best_loss


# The best epoch, early stopping


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    # Few points and a large network: it learns them by heart, and the validation loss rises again.
    few = blobs(12, spread=2.0)
    model, result = run(network(64), train=few, val=blobs(60, 1, spread=2.0), epochs=30, first_rate=0.03, patience=30)
    losses = [record.val_loss for record in result.history]
    assert 1 <= result.best_epoch < 30 and losses.index(min(losses)) + 1 == result.best_epoch
    assert result.best_loss == min(losses) < losses[-1]
    assert cross_entropy(model, blobs(60, 1, spread=2.0)) == pytest.approx(min(losses), rel=1e-4)
    assert result.best_accuracy == result.history[result.best_epoch - 1].val_accuracy


def test_early_stopping_waits_as_long_as_it_is_told(taught_wrong: keras.Model) -> None:
    before = taught_wrong.get_weights()
    model, result = run(taught_wrong, val=swapped(VAL), epochs=50, patience=3)
    assert result.best_epoch == 0 and len(result.history) == 3
    assert result.ended == "no better validation loss for 3 epochs"
    assert result.best_accuracy == result.start_accuracy > 0.6
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_patience_counts_from_the_best_epoch() -> None:
    few = blobs(12, spread=2.0)
    _, result = run(network(64), train=few, val=blobs(60, 1, spread=2.0), epochs=200, first_rate=0.03, patience=4)
    assert result.best_epoch > 0 and len(result.history) == result.best_epoch + 4


# Step sizes


def rates(**changes: Any) -> list[float]:
    recipe = dataclasses.replace(RECIPE, **changes)
    return [rate_at(recipe, step, STEPS) for step in range(recipe.epochs * STEPS)]


def test_cosine_falls_from_the_first_rate_to_almost_nothing() -> None:
    found = rates(schedule="cosine", epochs=10)
    assert found[0] == RECIPE.first_rate and found == sorted(found, reverse=True)
    assert found[30] == pytest.approx(RECIPE.first_rate / 2) and 0 < found[-1] < RECIPE.first_rate / 100


def test_a_constant_rate_is_constant_whatever_the_validation_says(taught_wrong: keras.Model) -> None:
    assert set(rates(schedule="constant")) == {RECIPE.first_rate}
    assert rate_at(dataclasses.replace(RECIPE, schedule="constant"), 3, STEPS, factor=0.25) == RECIPE.first_rate
    epochs = PLATEAU_EPOCHS + 2
    _, result = run(taught_wrong, val=swapped(VAL), schedule="constant", epochs=epochs, patience=100)
    assert [record.learning_rate for record in result.history] == pytest.approx([RECIPE.first_rate] * epochs)


def test_plateau_halves_the_rate_when_validation_gets_no_better(taught_wrong: keras.Model) -> None:
    epochs = 2 * PLATEAU_EPOCHS + 1
    _, result = run(taught_wrong, val=swapped(VAL), schedule="plateau", epochs=epochs, patience=100)
    factors = [1.0] * PLATEAU_EPOCHS + [0.5] * PLATEAU_EPOCHS + [0.25]
    assert result.best_epoch == 0
    assert [record.learning_rate / RECIPE.first_rate for record in result.history] == pytest.approx(factors)


def test_plateau_leaves_the_rate_while_validation_gets_better() -> None:
    _, result = run(schedule="plateau", epochs=PLATEAU_EPOCHS + 2, first_rate=1e-3)
    assert result.best_epoch == PLATEAU_EPOCHS + 2
    assert {round(record.learning_rate, 6) for record in result.history} == {1e-3}


@given(
    schedule=st.sampled_from(["cosine", "plateau", "constant"]),
    warmup=st.integers(0, 12),
    epochs=st.integers(1, 10),
    steps=st.integers(1, 20),
)
def test_a_rate_is_positive_never_above_the_first_and_rises_in_warm_up(
    schedule: str, warmup: int, epochs: int, steps: int
) -> None:
    recipe = dataclasses.replace(RECIPE, schedule=schedule, warmup_epochs=warmup, epochs=epochs)
    found = [rate_at(recipe, step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= recipe.first_rate * (1 + 1e-9) for rate in found)
    rising = found[: warmup * steps]
    assert rising == sorted(rising) and (not rising or rising[0] == pytest.approx(recipe.first_rate / warmup / steps))
    assert found[warmup * steps :] == sorted(found[warmup * steps :], reverse=True)


def test_the_rate_of_the_schedule_is_the_one_that_is_used() -> None:
    _, result = run(warmup_epochs=2)
    assert [record.learning_rate for record in result.history] == pytest.approx(
        rates(warmup_epochs=2)[STEPS - 1 :: STEPS]
    )


# What regularises


def hidden_norm(model: keras.Model) -> float:
    return float(np.linalg.norm(model.get_layer("hidden_1").kernel))


def test_l2_and_weight_decay_keep_weights_small() -> None:
    common: dict[str, Any] = {"epochs": 15, "first_rate": 0.03, "schedule": "constant"}
    plain = hidden_norm(run(**common)[0])
    assert hidden_norm(run(l2=0.01, **common)[0]) < 0.9 * plain
    assert hidden_norm(run(weight_decay=0.1, **common)[0]) < 0.9 * plain


def test_label_smoothing_makes_answers_less_confident() -> None:
    common: dict[str, Any] = {"epochs": 15, "first_rate": 0.03}
    plain, smoothed = (run(label_smoothing=share, **common)[0](TRAIN.x).numpy().max(1) for share in (0.0, 0.3))
    assert smoothed.mean() < plain.mean() - 0.1


def test_class_weights_bring_a_rare_class_back() -> None:
    overlapping = blobs(300, spread=3.0)
    kept = (overlapping.labels != 2) | (np.arange(300) % 10 == 2)
    rare = Points(overlapping.x[kept], overlapping.labels[kept])
    val = blobs(150, 1, spread=3.0)

    def recall(**changes: Any) -> float:
        model, _ = run(train=rare, val=rare, epochs=10, first_rate=0.03, **changes)
        return float((model(val.x).numpy().argmax(1) == 2)[val.labels == 2].mean())

    counts = np.bincount(rare.labels)
    assert recall(class_weights=tuple(len(rare.labels) / (CLASSES * counts))) > recall() + 0.2


def test_clipping_bounds_what_one_wild_example_does() -> None:
    wild = Points(TRAIN.x.copy(), TRAIN.labels)
    wild.x[7] = 1e6
    change = []
    for clip_norm in (0.0, 1e-9):
        model = network(8)
        before = hidden_norm(model)
        run(model, train=wild, val=wild, epochs=1, clip_norm=clip_norm, first_rate=0.01, patience=9)
        change.append(abs(hidden_norm(model) - before))
    assert change[1] < 0.5 * change[0]


# The deadline


def test_the_deadline_stops_within_an_epoch_with_the_best_so_far() -> None:
    deadline = time.monotonic() + 1000

    def wait(batch: int) -> None:
        if batch == 2 * STEPS + 2:
            monkey.setattr(time, "monotonic", lambda: deadline + 1)

    with pytest.MonkeyPatch.context() as monkey:
        train = Watched(TRAIN, wait)
        model, result = run(train=train, epochs=100, deadline=deadline)
    assert train.batches == 2 * STEPS + 3
    assert result.ended == "the time budget is spent" and len(result.history) == 3
    assert cross_entropy(model, VAL) == pytest.approx(result.best_loss, rel=1e-4)
    assert result.best_loss == min(record.val_loss for record in result.history)


def test_a_deadline_that_has_passed_leaves_one_step() -> None:
    train = Watched(TRAIN, lambda _: None)
    _, result = run(train=train, deadline=time.monotonic() - 1)
    assert train.batches == 1 and len(result.history) == 1


def test_a_resumed_run_uses_the_time_that_it_now_has(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    run(deadline=time.monotonic() - 1, checkpoint=checkpoint)
    _, still = run(deadline=time.monotonic() - 1, checkpoint=checkpoint)
    assert len(still.history) == 1 and still.ended == "the time budget is spent"
    _, result = run(checkpoint=checkpoint)
    assert len(result.history) == RECIPE.epochs and result.ended == "all epochs done"


# What is not finite


def test_a_nan_stops_with_its_layer_and_the_last_good_weights() -> None:
    poisoned = Points(TRAIN.x.copy(), TRAIN.labels)
    train = Watched(poisoned, lambda batch: poisoned.x.fill(np.nan) if batch == 2 * STEPS + 3 else None)
    told: list[EpochRecord] = []
    model, result = run(train=train, epochs=9, on_epoch=lambda record, _: told.append(record))
    found = result.divergence
    assert found is not None and (found.phase, found.epoch, found.step, found.layer) == ("head", 3, 3, "hidden_1")
    # A ReLU makes NaN zero in some kernels: then the gradient alone shows it.
    assert found.what in ("loss", "gradient") and result.ended == f"a {found.what} that is not finite"
    assert len(result.history) == len(told) == 2 and result.best_epoch == 2
    assert cross_entropy(model, VAL) == pytest.approx(result.best_loss, rel=1e-4)


def test_exploding_steps_are_found() -> None:
    model, result = run(epochs=9, first_rate=1e30, schedule="constant")
    assert result.divergence is not None and result.best_epoch == 0
    for now, then in zip(model.get_weights(), network(8).get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_that_the_last_step_spoils_are_found_too() -> None:
    # One step an epoch: its loss is finite, what it makes of the weights is not.
    model, result = run(epochs=9, first_rate=1e39, batch_size=90, schedule="constant")
    found = result.divergence
    assert found is not None and (found.epoch, found.step, found.what, found.layer) == (1, 0, "weights", "hidden_1")
    assert result.ended == "weights that are not finite" and result.history == ()
    assert cross_entropy(model, VAL) == pytest.approx(result.best_loss, rel=1e-4)


def test_bad_weights_that_a_relu_hides_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(8)

    def spoil(points: Points) -> Watched:
        bias = np.array([-np.inf] + [0] * 7, np.float32)
        return Watched(points, lambda batch: model.get_layer("hidden_1").bias.assign(bias) if batch == STEPS else None)

    _, result = run(model, train=spoil(TRAIN), epochs=3)
    found = result.divergence
    assert found is not None and (found.epoch, found.what, found.layer) == (2, "weights", "hidden_1")
    assert len(result.history) == 1 and np.isfinite(model.get_layer("hidden_1").bias.numpy()).all()


# Checkpoints


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
    "first_rate": 0.02,
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
    checkpoint = Checkpoint(tmp_path / "checkpoint-head.npz")
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
    checkpoint = Checkpoint(tmp_path / "checkpoint-head.npz")
    model, result = run(checkpoint=checkpoint)
    never = Watched(TRAIN, lambda _: pytest.fail("trained again"))
    again, found = run(train=never, checkpoint=checkpoint)
    assert found == result
    for now, then in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_divergence_is_remembered(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint-head.npz")
    _, result = run(epochs=9, first_rate=1e30, schedule="constant", checkpoint=checkpoint)
    _, again = run(epochs=9, first_rate=1e30, schedule="constant", checkpoint=checkpoint)
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
    assert fit_module._State.from_json(state.to_json()) == state
