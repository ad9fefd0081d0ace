"""The training loop of one phase, on points in a few dimensions: what it keeps and when it stops."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from points import (
    RECIPE,
    STEPS,
    TRAIN,
    VAL,
    Points,
    Watched,
    accuracy,
    blobs,
    cross_entropy,
    network,
    run,
    swapped,
    taught_wrong,
    without_seconds,
)

from edgecls.training.fit import FitResult
from edgecls.training.history import EpochRecord
from edgecls.training.run.checkpoint import Checkpoint

# Learning


def test_the_points_are_learned_and_every_epoch_noted() -> None:
    start = accuracy(network(8), VAL)
    model, result = run(epochs=8)
    assert result.ended == "all epochs done" and result.divergence is None
    assert result.start_accuracy == pytest.approx(start)
    assert result.best_accuracy > max(0.8, start)
    assert [(record.phase, record.epoch) for record in result.history] == [("classifier", n) for n in range(1, 9)]
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


def test_each_epoch_is_reported_with_the_result_so_far() -> None:
    reported: list[tuple[EpochRecord, FitResult]] = []
    _, result = run(on_epoch=lambda record, so_far: reported.append((record, so_far)))
    assert [record for record, _ in reported] == list(result.history)
    assert [len(so_far.history) for _, so_far in reported] == [1, 2, 3, 4]
    assert reported[-1][1].best_loss == result.best_loss


# The best epoch, early stopping


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    # Few points and a large network: it overfits, and the validation loss rises again.
    few = blobs(12, spread=2.0)
    model, result = run(
        network(64), train=few, val=blobs(60, 1, spread=2.0), epochs=30, learning_rate=0.03, patience=30
    )
    losses = [record.val_loss for record in result.history]
    assert 1 <= result.best_epoch < 30 and losses.index(min(losses)) + 1 == result.best_epoch
    assert result.best_loss == min(losses) < losses[-1]
    assert cross_entropy(model, blobs(60, 1, spread=2.0)) == pytest.approx(min(losses), rel=1e-4)
    assert result.best_accuracy == result.history[result.best_epoch - 1].val_accuracy


def test_early_stopping_waits_as_long_as_it_is_reported() -> None:
    before = taught_wrong().get_weights()
    model, result = run(taught_wrong(), val=swapped(VAL), start_counts=True, epochs=50, patience=3)
    assert result.best_epoch == 0 and len(result.history) == 3
    assert result.ended == "no better validation loss for 3 epochs"
    assert result.best_accuracy == result.start_accuracy > 0.6
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_where_the_start_does_not_count_there_is_a_best_epoch_however_bad() -> None:
    model, result = run(taught_wrong(), val=swapped(VAL), start_counts=False, epochs=2)
    assert result.best_epoch == 1 and result.best_loss > cross_entropy(taught_wrong(), swapped(VAL))
    assert cross_entropy(model, swapped(VAL)) == pytest.approx(result.history[0].val_loss, rel=1e-4)


def test_patience_counts_from_the_best_epoch() -> None:
    few = blobs(12, spread=2.0)
    _, result = run(network(64), train=few, val=blobs(60, 1, spread=2.0), epochs=200, learning_rate=0.03, patience=4)
    assert result.best_epoch > 0 and len(result.history) == result.best_epoch + 4


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
    reported: list[EpochRecord] = []
    model, result = run(train=train, epochs=9, on_epoch=lambda record, _: reported.append(record))
    found = result.divergence
    assert found is not None and (found.phase, found.epoch, found.step, found.layer) == ("classifier", 3, 3, "hidden_1")
    # A ReLU makes NaN zero in some kernels: then the gradient alone shows it.
    assert found.what in ("loss", "gradient") and result.ended == f"a {found.what} that is not finite"
    assert len(result.history) == len(reported) == 2 and result.best_epoch == 2
    assert cross_entropy(model, VAL) == pytest.approx(result.best_loss, rel=1e-4)


def test_exploding_steps_are_found() -> None:
    model, result = run(epochs=9, learning_rate=1e30, schedule="constant")
    assert result.divergence is not None and result.best_epoch == 0
    for now, then in zip(model.get_weights(), network(8).get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_that_the_last_step_spoils_are_found_too() -> None:
    # One step an epoch: its loss is finite, what it makes of the weights is not.
    model, result = run(epochs=9, learning_rate=1e39, batch_size=90, schedule="constant")
    found = result.divergence
    assert found is not None and (found.epoch, found.step, found.what, found.layer) == (1, 0, "weights", "hidden_1")
    assert result.ended == "weights that are not finite" and result.history == () and result.best_epoch == 0
    for now, then in zip(model.get_weights(), network(8).get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_bad_weights_that_a_relu_hides_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(8)

    def spoil(points: Points) -> Watched:
        bias = np.array([-np.inf] + [0] * 7, np.float32)
        return Watched(points, lambda batch: model.get_layer("hidden_1").bias.assign(bias) if batch == STEPS else None)

    _, result = run(model, train=spoil(TRAIN), epochs=3)
    found = result.divergence
    assert found is not None and (found.epoch, found.what, found.layer) == (2, "weights", "hidden_1")
    assert len(result.history) == 1 and np.isfinite(model.get_layer("hidden_1").bias.numpy()).all()
