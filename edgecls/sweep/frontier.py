"""The frontier of accuracy and latency, the recommended network, and the next slower and faster ones.

Pure arithmetic on the accuracy and the latency of each network.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from edgecls.evaluate import mcnemar_p
from edgecls.sweep.latency import Latency

# A gain in accuracy that is not worth a slower network.
SMALL_GAIN = 0.005


@dataclass(frozen=True)
class Point:
    """A network that can be shipped."""

    name: str  # of the candidate
    accuracy: float  # of its exported file, 0..1
    wrong: frozenset[int]  # indices of the held-out images that it gets wrong
    latency: Latency  # of the file
    size_bytes: int  # of the file
    val_accuracy: float = 0.0  # of the trained network on the validation images, 0..1
    val_images: int = 0  # how many these are


@dataclass(frozen=True)
class Step:
    """What another network would change."""

    point: Point  # the other network
    accuracy_gain: float  # its accuracy minus that of the recommended one
    mcnemar_p: float  # probability of such a difference if both were equally good
    times: float  # its latency divided by that of the recommended one


def find_frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points for which no other one is more accurate and not slower, the fastest first.

    Of points that are equal in both, the one with the smallest file is taken.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.latency.p50_ms, -each.accuracy, each.size_bytes, each.name)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return tuple(best)


def is_fast_enough(latency: Latency, budget_ms: float | None) -> bool:
    """Return whether a median meets the budget; None is no limit."""
    return budget_ms is None or latency.p50_ms <= budget_ms


def recommend(frontier: Sequence[Point], budget_ms: float | None) -> Point | None:
    """Return the most accurate that meets the budget, or a faster one within `SMALL_GAIN` of it; None if none meets it.

    A paired test does not decide: on few images it finds no difference at all, and the user allows the whole budget.
    """
    allowed = [point for point in frontier if is_fast_enough(point.latency, budget_ms)]
    if not allowed:
        return None
    # Rounding must not decide.
    enough = allowed[-1].accuracy - SMALL_GAIN - 1e-9
    return next(point for point in allowed if point.accuracy >= enough)


def recommend_fastest(
    points: Sequence[Point], budget_ms: float | None, max_loss: float, proven: Container[str] = ()
) -> Point | None:
    """Return the fastest that meets the budget and loses at most `max_loss` on the validation images.

    A network in `proven`, which many other images have shown to be good enough, may lose one standard error of the best
    one's accuracy more (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3): few validation images
    cannot tell such networks apart. The accuracy on the held-out images has no part in the choice.
    """
    allowed = [point for point in points if is_fast_enough(point.latency, budget_ms)]
    if not allowed:
        return None
    best = max(allowed, key=lambda point: point.val_accuracy)
    error = math.sqrt(best.val_accuracy * (1 - best.val_accuracy) / max(best.val_images, 1))
    enough = best.val_accuracy - max_loss - 1e-9
    good = [point for point in allowed if point.val_accuracy >= enough - error * (point.name in proven)]
    return min(good, key=lambda point: (point.latency.p50_ms, point.size_bytes, point.name))


def compare_points(one: Point, other: Point) -> float:
    """Return McNemar's p-value of two networks on the same images."""
    return mcnemar_p(len(one.wrong - other.wrong), len(other.wrong - one.wrong))


def find_steps(frontier: Sequence[Point], chosen: Point) -> tuple[Step | None, Step | None]:
    """Return the next slower and the next faster network of the frontier; `chosen` need not be on it."""
    slower = next((point for point in frontier if point.latency.p50_ms > chosen.latency.p50_ms), None)
    faster = next((point for point in reversed(frontier) if point.latency.p50_ms < chosen.latency.p50_ms), None)
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
