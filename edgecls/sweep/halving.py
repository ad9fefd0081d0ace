"""Which networks of a large grid are trained in full: successive halving among networks of one latency.

A short training, a quarter of the epochs without augmentation, is enough to find the worst ones. Networks of other
sizes and widths do not compete with each other: the small ones would always lose, and they are wanted for their speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from edgecls.config import TrainConfig
from edgecls.sweep.grid import NamedNetwork

# Grids up to this size are trained in full.
FULL_GRID = 12
# A network goes on if it is among the best third of those that had a short training before it.
REDUCTION_FACTOR = 3
SHORT_FRACTION = 4


def shorten(config: TrainConfig) -> TrainConfig:
    """Return the settings of the short training."""
    # A classifier that is solved at once has no epochs, and would be one of steps with other ones.
    solved = config.classifier_solver == "lbfgs"
    return replace(
        config,
        augment=None,
        epochs=config.epochs if solved else max(1, config.epochs // SHORT_FRACTION),
        fine_epochs=max(1, config.fine_epochs // SHORT_FRACTION),
    )


def halve(
    candidates: Sequence[NamedNetwork],
    train_shortly: Callable[[NamedNetwork], float | None],
    train_fully: Callable[[NamedNetwork], object],
) -> list[NamedNetwork]:
    """Train candidates, and return those that were stopped after the short training.

    Args:
        candidates: those of one `network` next to each other.
        train_shortly: returns the accuracy after a short training; None if there is none.
        train_fully: trains a candidate that goes on, and one that is alone in its group.
    """
    stopped: list[NamedNetwork] = []
    for _, members in groupby(candidates, key=lambda candidate: candidate.network):
        group = list(members)
        accuracies: list[float] = []
        for candidate in group:
            if len(group) > 1:
                if (accuracy := train_shortly(candidate)) is None:
                    continue
                accuracies.append(accuracy)
                if accuracy < sorted(accuracies)[-max(1, len(accuracies) // REDUCTION_FACTOR)]:
                    stopped.append(candidate)
                    continue
            train_fully(candidate)
    return stopped
