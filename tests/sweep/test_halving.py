from __future__ import annotations

import numpy as np
import pytest

from edgecls.config import TrainConfig
from edgecls.sweep import halving
from edgecls.sweep.grid import NamedNetwork, Space, list_candidates

GRID = list_candidates(Space(image_sizes=(96, 128), heads=("gap", "flatten"), unfreeze=(0, 1, 2)), TrainConfig())


def test_the_short_training_is_cheaper_and_never_nothing() -> None:
    short = halving.shorten(TrainConfig(epochs=40, fine_epochs=10))
    assert (short.epochs, short.fine_epochs, short.augment) == (10, 2, None)
    assert halving.shorten(TrainConfig(epochs=1, fine_epochs=1)).epochs == 1


def test_a_solved_classifier_is_solved_in_the_short_training_too() -> None:
    assert TrainConfig().classifier_solver == halving.shorten(TrainConfig()).classifier_solver == "lbfgs"


@pytest.mark.parametrize(
    ("accuracies", "goes_on"),
    [
        # The best of two, then the best so far; of six, the best two; an equal one goes on too.
        ([0.5, 0.4, 0.6, 0.55, 0.7, 0.65], [True, False, True, False, True, True]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [True, False, False, False, False, False]),
        ([0.5, 0.5, 0.4, None, 0.5, 0.5], [True, True, False, False, True, True]),
    ],
)
def test_a_network_goes_on_if_it_is_among_the_best_third_so_far(
    accuracies: list[float | None], goes_on: list[bool]
) -> None:
    group = [each for each in GRID if each.config.image_size == 96]
    short = dict(zip(group, accuracies, strict=True))
    fully: list[NamedNetwork] = []
    stopped = halving.halve(group, short.get, fully.append)
    assert [each in fully for each in group] == goes_on
    assert stopped == [each for each in group if each not in fully and short[each] is not None]


def test_the_best_of_each_size_goes_on_and_sizes_do_not_compete() -> None:
    # All of the larger size are better than all of the smaller.
    short = {each: 0.9 * (each.config.image_size == 128) + 0.01 * (each.config.unfreeze or 0) for each in GRID}
    fully: list[NamedNetwork] = []

    def train(candidate: NamedNetwork) -> float:
        fully.append(candidate)
        return short[candidate]

    stopped = halving.halve(GRID, short.__getitem__, train)
    assert set(stopped) | set(fully) == set(GRID) and not set(stopped) & set(fully)
    assert stopped
    for size in (96, 128):
        best = max((each for each in GRID if each.config.image_size == size), key=short.__getitem__)
        assert best in fully


def test_one_network_alone_needs_no_short_training_and_failures_stop_nothing() -> None:
    alone = GRID[0]
    others = [each for each in GRID if each.network != alone.network]
    asked: list[NamedNetwork] = []

    def score(candidate: NamedNetwork) -> float | None:
        asked.append(candidate)
        return None if candidate is others[0] else 0.5

    assert halving.halve([alone, *others], score, lambda candidate: None) == []
    assert asked == others


@pytest.mark.parametrize("seed", range(5))
def test_who_is_stopped_follows_from_the_short_trainings_alone(seed: int) -> None:
    # A cluster does all short ones first, then asks, then does the whole ones.
    random = np.random.default_rng(seed)
    short = {each: float(random.random()) for each in GRID}
    whole = {each: float(random.random()) for each in GRID}
    promising: list[NamedNetwork] = []
    stopped = halving.halve(GRID, short.__getitem__, whole.__getitem__)
    assert halving.halve(GRID, short.get, promising.append) == stopped
    assert promising == [each for each in GRID if each not in stopped]
