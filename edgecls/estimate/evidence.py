"""What is known of a board when a latency is predicted: the evidence behind an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from edgecls.estimate.model import Run

# What is known when a latency is predicted, from the most to the least:
# "measured": another network on the same board, with the same engine, precision and threads;
# "latency": latencies of this engine on the board;
# "engine": latencies of other engines on the board, and of this engine on other boards of its group;
# "board": latencies of this engine on other boards of the group only;
# "new": no latency of this engine on any processor of the group.
# "network" stands apart: no latency of the network on any board, whatever else is known.
Evidence = Literal["measured", "latency", "engine", "board", "new", "network"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
# Fraction of the latencies that an interval is expected to hold.
COVERAGE = 0.8
# The networks that resemble ours: their errors give the intervals.
TARGETS = ("mobilenet_v1", "mobilenet_v2")


def find_evidence(run: Run, known: Iterable[Run]) -> Evidence:
    """Return what is known of `run`, given the runs whose latencies are known; never "measured" or "network"."""
    processor, engine = run.processor, run.engine
    runs = list(known)
    if any((other.processor.name, other.engine) == (processor.name, engine) for other in runs):
        return "latency"
    if not any((other.processor.group, other.engine) == (processor.group, engine) for other in runs):
        return "new"
    return "engine" if any(other.processor.name == processor.name for other in runs) else "board"
