"""The phases of a run, and how messages and pictures name them. Runs of older versions have other names on disk."""

from __future__ import annotations

# Phases that start from random weights; every run begins with one of them.
OPENING_PHASES = ("classifier", "network")
# Phases that use the main learning rate and number of epochs; the others use those of fine-tuning.
MAIN_PHASES = (*OPENING_PHASES, "augmented")
# Phases in which blocks of the backbone learn.
BLOCK_PHASES = ("fine-tuning", "backbone")
# Phases whose classifier can be solved at once, on cached features.
SOLVABLE_PHASES = ("classifier", "augmented")
_OLD_NAMES = {"head": "classifier", "views": "augmented", "unfreeze": "fine-tuning", "all": "network"}
_TRAINED = {
    "classifier": "the classifier",
    "augmented": "the classifier on augmented copies",
    "joint": "gray_to_rgb and the classifier",
    "fine-tuning": "the last blocks of the backbone",
    "backbone": "the whole backbone",
    "network": "the network",
}


def phase_name(name: str) -> str:
    """Return today's name of a phase."""
    return _OLD_NAMES.get(name, name)


def trained_part(name: str) -> str:
    """Return which part of the network a phase trains, for use in a sentence."""
    return _TRAINED.get(phase_name(name), name)
