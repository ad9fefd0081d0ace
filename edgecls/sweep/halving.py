"""Which networks of a large grid are trained in full: successive halving by Optuna, among networks of one latency.

A short training, a quarter of the epochs on the images as they are, tells the worst apart. Networks of other sizes and
widths do not compete with each other: the small ones lose every such race, and are wanted for their speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING

from edgecls.config import TrainConfig
from edgecls.errors import MissingDependency
from edgecls.sweep.grid import Candidate

if TYPE_CHECKING:
    import optuna

# Up to here all are trained in full.
FULL_GRID = 12
# Of the networks that were trained shortly so far, those among the best third go on.
REDUCTION_FACTOR = 3
SHORT_SHARE = 4


def check_installed(candidates: Sequence[Candidate]) -> None:
    """Raise MissingDependency if the grid is large and Optuna is not installed."""
    if len(candidates) > FULL_GRID and find_spec("optuna") is None:
        raise MissingDependency(
            f"{len(candidates)} networks are to be tried, and halving more than {FULL_GRID} needs Optuna: "
            "pip install 'edgecls[sweep]'; or ask for fewer, or for --full-grid"
        )


def shorten(config: TrainConfig) -> TrainConfig:
    """Return the settings of the short training."""
    return replace(
        config,
        augment=None,
        epochs=max(1, config.epochs // SHORT_SHARE),
        fine_epochs=max(1, config.fine_epochs // SHORT_SHARE),
    )


def halve(
    candidates: Sequence[Candidate],
    score_shortly: Callable[[Candidate], float | None],
    train_fully: Callable[[Candidate], float | None],
) -> list[Candidate]:
    """Train candidates, and return those that were stopped after the short training.

    Args:
        candidates: those of one `network` next to each other.
        score_shortly: returns the accuracy after a short training; None if there was no time.
        train_fully: returns the accuracy after the whole training; None if it came to nothing.
    """
    stopped: list[Candidate] = []
    for _, group in groupby(candidates, key=lambda candidate: candidate.network):
        together = list(group)
        if len(together) == 1:
            train_fully(together[0])
        else:
            stopped += _halve_group(together, score_shortly, train_fully)
    return stopped


def _halve_group(
    candidates: Sequence[Candidate],
    score_shortly: Callable[[Candidate], float | None],
    train_fully: Callable[[Candidate], float | None],
) -> list[Candidate]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stopped: list[Candidate] = []

    def objective(trial: optuna.Trial) -> float:
        candidate = candidates[trial.suggest_int("place", 0, len(candidates) - 1)]
        accuracy = score_shortly(candidate)
        if accuracy is None:
            raise optuna.TrialPruned
        trial.report(accuracy, 1)
        if trial.should_prune():
            stopped.append(candidate)
            raise optuna.TrialPruned
        final = train_fully(candidate)
        if final is None:
            raise optuna.TrialPruned
        return final

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION_FACTOR)
    # What was trained lies in run folders: the study itself needs no storage to go on after an interruption.
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for place in range(len(candidates)):
        study.enqueue_trial({"place": place})
    study.optimize(objective, n_trials=len(candidates))
    return stopped
