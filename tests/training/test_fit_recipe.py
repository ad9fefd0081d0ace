"""Learning rates, and what each setting of the recipe does to what is learned."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from points import CLASSES, RECIPE, STEPS, TRAIN, VAL, Points, blobs, network, run, swapped, taught_wrong

from edgecls.training.fit import PLATEAU_EPOCHS

# Learning rates


def rates(**changes: Any) -> list[float]:
    recipe = dataclasses.replace(RECIPE, **changes)
    return [recipe.learning_rate_at(step, STEPS) for step in range(recipe.epochs * STEPS)]


def test_cosine_falls_from_the_first_rate_to_almost_nothing() -> None:
    found = rates(schedule="cosine", epochs=10)
    assert found[0] == RECIPE.learning_rate and found == sorted(found, reverse=True)
    assert found[30] == pytest.approx(RECIPE.learning_rate / 2) and 0 < found[-1] < RECIPE.learning_rate / 100


def test_a_constant_rate_is_constant_whatever_the_validation_says() -> None:
    assert set(rates(schedule="constant")) == {RECIPE.learning_rate}
    assert (
        dataclasses.replace(RECIPE, schedule="constant").learning_rate_at(3, STEPS, factor=0.25) == RECIPE.learning_rate
    )
    epochs = PLATEAU_EPOCHS + 2
    _, result = run(
        taught_wrong(), val=swapped(VAL), start_counts=True, schedule="constant", epochs=epochs, patience=100
    )
    assert [record.learning_rate for record in result.history] == pytest.approx([RECIPE.learning_rate] * epochs)


def test_plateau_halves_the_rate_when_validation_gets_no_better() -> None:
    epochs = 2 * PLATEAU_EPOCHS + 1
    _, result = run(
        taught_wrong(), val=swapped(VAL), start_counts=True, schedule="plateau", epochs=epochs, patience=100
    )
    factors = [1.0] * PLATEAU_EPOCHS + [0.5] * PLATEAU_EPOCHS + [0.25]
    assert result.best_epoch == 0
    assert [record.learning_rate / RECIPE.learning_rate for record in result.history] == pytest.approx(factors)


def test_plateau_goes_back_to_the_best_weights() -> None:
    model = taught_wrong()
    start = model.get_weights()
    # Its training images harm it at once: it goes back after the last epoch that is waited for.
    network_ends: list[list[Any]] = []
    run(
        model,
        val=swapped(VAL),
        start_counts=True,
        schedule="plateau",
        epochs=PLATEAU_EPOCHS + 1,
        patience=100,
        on_epoch=lambda record, so_far: network_ends.append(model.get_weights()),
    )
    same = [all(np.array_equal(a, b) for a, b in zip(start, end, strict=True)) for end in network_ends]
    assert same == [False] * (PLATEAU_EPOCHS - 1) + [True, False]


def test_plateau_leaves_the_rate_while_validation_gets_better() -> None:
    _, result = run(schedule="plateau", epochs=PLATEAU_EPOCHS + 2, learning_rate=1e-3)
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
    found = [recipe.learning_rate_at(step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= recipe.learning_rate * (1 + 1e-9) for rate in found)
    rising = found[: warmup * steps]
    assert rising == sorted(rising) and (
        not rising or rising[0] == pytest.approx(recipe.learning_rate / warmup / steps)
    )
    assert found[warmup * steps :] == sorted(found[warmup * steps :], reverse=True)


def test_the_rate_of_the_schedule_is_the_one_that_is_used() -> None:
    _, result = run(warmup_epochs=2)
    assert [record.learning_rate for record in result.history] == pytest.approx(
        rates(warmup_epochs=2)[STEPS - 1 :: STEPS]
    )


# What regularizes


def hidden_norm(model: keras.Model) -> float:
    return float(np.linalg.norm(model.get_layer("hidden_1").kernel))


def test_l2_and_weight_decay_keep_weights_small() -> None:
    common: dict[str, Any] = {"epochs": 15, "learning_rate": 0.03, "schedule": "constant"}
    plain = hidden_norm(run(**common)[0])
    assert hidden_norm(run(l2=0.01, **common)[0]) < 0.9 * plain
    assert hidden_norm(run(weight_decay=0.1, **common)[0]) < 0.9 * plain


def test_label_smoothing_makes_answers_less_confident() -> None:
    common: dict[str, Any] = {"epochs": 15, "learning_rate": 0.03}
    plain, smoothed = (run(label_smoothing=share, **common)[0](TRAIN.x).numpy().max(1) for share in (0.0, 0.3))
    assert smoothed.mean() < plain.mean() - 0.1


def test_class_weights_bring_a_rare_class_back() -> None:
    overlapping = blobs(300, spread=3.0)
    kept = (overlapping.labels != 2) | (np.arange(300) % 10 == 2)
    rare = Points(overlapping.x[kept], overlapping.labels[kept])
    val = blobs(150, 1, spread=3.0)

    def recall(**changes: Any) -> float:
        model, _ = run(train=rare, val=rare, epochs=10, learning_rate=0.03, **changes)
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
        run(model, train=wild, val=wild, epochs=1, clip_norm=clip_norm, learning_rate=0.01, patience=9)
        change.append(abs(hidden_norm(model) - before))
    assert change[1] < 0.5 * change[0]
