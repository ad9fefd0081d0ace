"""Which of several networks to take: the frontier of accuracy and latency, the recommended one, its neighbours.

Pure arithmetic: it sees what each network scored and how long it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecls.export.gate import mcnemar_p
from edgecls.sweep.latency import Latency

# The usual level: rarer than this, a difference in accuracy is taken for a real one.
SIGNIFICANT_P = 0.05
# Accuracy that is not worth a slower network.
SMALL_GAIN = 0.005


@dataclass(frozen=True)
class Point:
    """A network that may be shipped.

    Attributes:
        name: of the candidate.
        accuracy: of its exported file, 0..1.
        wrong: places of the held-out images that it gets wrong.
        latency: of the file.
        size_bytes: of the file.
    """

    name: str
    accuracy: float
    wrong: frozenset[int]
    latency: Latency
    size_bytes: int


@dataclass(frozen=True)
class Step:
    """What another network would change.

    Attributes:
        point: it.
        accuracy_gain: its accuracy less that of the recommended one.
        mcnemar_p: chance of such a difference if both were equally good.
        times: its latency, in that of the recommended one.
    """

    point: Point
    accuracy_gain: float
    mcnemar_p: float
    times: float


def find_frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other one beats in accuracy without being slower, the fastest first.

    Of points that are alike in both, the one with the smallest file is taken.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.latency.p50_ms, -each.accuracy, each.size_bytes, each.name)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return tuple(best)


def recommend(frontier: Sequence[Point], budget_ms: float) -> Point | None:
    """Return the most accurate that meets the budget, or a faster one within `SMALL_GAIN` of it; None if none meets it.

    Not the fastest that a paired test cannot tell from it: on few images it can tell none, and the budget is there to
    be spent.
    """
    allowed = [point for point in frontier if point.latency.p50_ms <= budget_ms]
    if not allowed:
        return None
    # Rounding must not decide.
    enough = allowed[-1].accuracy - SMALL_GAIN - 1e-9
    return next(point for point in allowed if point.accuracy >= enough)


def compare_points(one: Point, other: Point) -> float:
    """Return McNemar's p-value of two networks on the same images."""
    return mcnemar_p(len(one.wrong - other.wrong), len(other.wrong - one.wrong))


def find_steps(frontier: Sequence[Point], chosen: Point) -> tuple[Step | None, Step | None]:
    """Return the next slower and the next faster network of the frontier."""
    place = frontier.index(chosen)
    slower = frontier[place + 1] if place + 1 < len(frontier) else None
    faster = frontier[place - 1] if place else None
    return _step(slower, chosen), _step(faster, chosen)


def _step(point: Point | None, chosen: Point) -> Step | None:
    if point is None:
        return None
    return Step(
        point,
        accuracy_gain=point.accuracy - chosen.accuracy,
        mcnemar_p=compare_points(point, chosen),
        times=point.latency.p50_ms / chosen.latency.p50_ms,
    )
