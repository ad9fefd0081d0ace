"""What is known of a board when a latency is predicted: the grounds of an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from edgecls.estimate.model import Run

# What is known when a latency is predicted, from the most to the least:
# "measured": another network in the very setting: board, engine, precision and threads;
# "figure": the board with this engine;
# "engine": the board with other engines, and this engine on others of its group;
# "board": this engine on others of the board's group, nothing of the board;
# "new": nothing of this engine on any processor of the group.
# And "network": no figure of the network anywhere, whatever else is known.
Grounds = Literal["measured", "figure", "engine", "board", "new", "network"]
GROUNDS: tuple[Grounds, ...] = ("measured", "figure", "engine", "board", "new", "network")
# Share of the figures that intervals are made to hold.
COVERAGE = 0.8
# The networks that resemble ours: intervals are taken from their errors.
TARGETS = ("mobilenet_v1", "mobilenet_v2")


def grounds_of(run: Run, known: Iterable[Run]) -> Grounds:
    """Return what the runs whose latencies are known tell of `run`, by the least of `GROUNDS` but "measured"."""
    processor, engine = run.processor, run.engine
    runs = list(known)
    if any((other.processor.name, other.engine) == (processor.name, engine) for other in runs):
        return "figure"
    if not any((other.processor.group, other.engine) == (processor.group, engine) for other in runs):
        return "new"
    return "engine" if any(other.processor.name == processor.name for other in runs) else "board"
