"""The frontier of accuracy and latency, the recommended network, and the next slower and faster ones.

Pure arithmetic on the accuracy and the latency of each network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecls.evaluate import mcnemar_p
from edgecls.sweep.latency import Latency

# A gain in accuracy that is not worth a slower network.
SMALL_GAIN = 0.005
# However many images the frozen networks labeled, they say no more than so many do of the fine-tuned networks:
# fine-tuning changes the differences between networks by about a point, which is the standard error of a difference
# on so many images where 5 % of the labels differ.
FROZEN_WORTH = 500


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
class Before:
    """What is known of networks before they are fine-tuned."""

    accuracies: Mapping[str, float]  # with a linear classifier, by the name of the network, 0..1
    images: int  # that these were measured on
    default: str = ""  # name of the network that a user would train without a search; "" if there is none

    @property
    def weight(self) -> float:
        """Return how many validation images of the fine-tuned networks say as much as these images."""
        return 1 / (1 / self.images + 1 / FROZEN_WORTH) if self.images else 0.0


NOTHING_BEFORE = Before({}, 0)


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
    points: Sequence[Point], budget_ms: float | None, max_loss: float, before: Before = NOTHING_BEFORE
) -> Point | None:
    """Return the fastest that meets the budget and is neither clearly worse than the best nor worse than the default.

    Each accuracy is the mean of that on the validation images and that of `before`, weighted by the images. Worse than
    the whole network is what loses more than `max_loss`. Clearly worse than the best is what loses more than
    `max_loss` and two standard errors: the difference of two such accuracies is smaller by chance with a probability
    of 92 %. The accuracy on the held-out images has no part in the choice.
    """
    allowed = [point for point in points if is_fast_enough(point.latency, budget_ms)]
    if not allowed:
        return None
    known = before if all(point.name in before.accuracies for point in allowed) else NOTHING_BEFORE
    accuracy = {point.name: _pool(point, known) for point in allowed}
    best = max(accuracy.values())
    error = math.sqrt(best * (1 - best) / max(allowed[0].val_images + known.weight, 1))
    # Rounding must not decide.
    enough = max(best - 2 * error, accuracy.get(before.default, 0)) - max_loss - 1e-9
    good = [point for point in allowed if accuracy[point.name] >= min(enough, best)]
    return min(good, key=lambda point: (point.latency.p50_ms, point.size_bytes, point.name))


def _pool(point: Point, before: Before) -> float:
    """Return the accuracy on the validation images, pooled with that of the frozen network."""
    images = point.val_images + before.weight
    if not images:
        return point.val_accuracy
    earlier = before.weight * before.accuracies.get(point.name, 0)
    return (point.val_images * point.val_accuracy + earlier) / images


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
