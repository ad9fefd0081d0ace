"""The whole way: which networks may meet the budget, trained, scored and timed, and which of them to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.errors import ConfigError, DataError, WeightsError
from edgecls.estimate.operators import count_network
from edgecls.images.folders import check_root, find_parts, list_images
from edgecls.images.leftovers import LeftOut
from edgecls.messages.lists import some
from edgecls.networks.weights import find_weights
from edgecls.progress import Progress, silent
from edgecls.sweep import halving
from edgecls.sweep.frontier import Point, Step, find_frontier, find_steps, recommend
from edgecls.sweep.grid import Candidate
from edgecls.sweep.latency import (
    Benchmark,
    Latency,
    Place,
    benchmark_here,
    estimate_latency,
    find_place,
    measure_latencies,
)
from edgecls.sweep.run import Scored
from edgecls.sweep.trials import Request, Trials


@dataclass(frozen=True)
class Row:
    """What came of a candidate.

    Attributes:
        candidate: it.
        latency: measured or estimated; None if it is neither.
        scored: None if it was not trained.
        left_out_because: why it may not be recommended, or "".
    """

    candidate: Candidate
    latency: Latency | None
    scored: Scored | None
    left_out_because: str


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        data: the folder of images.
        request: what it was for.
        place: where the files will run.
        rows: one for each candidate, the fastest first.
        frontier: the fastest first.
        recommended: of the frontier; None if none meets the budget.
        slower: the next step up.
        faster: the next step down.
        warnings: of the trainings of this call.
    """

    data: Path
    request: Request
    place: Place
    rows: tuple[Row, ...]
    frontier: tuple[Point, ...]
    recommended: Point | None
    slower: Step | None
    faster: Step | None
    warnings: tuple[str, ...] = ()


def sweep(
    data: Path,
    out: Path,
    candidates: Sequence[Candidate],
    request: Request,
    progress: Progress = silent,
    benchmark: Benchmark = benchmark_here,
) -> Sweep:
    """Return the frontier of the candidates; each that was trained has a run folder in `out`.

    Called again with the same arguments, it goes on where it was interrupted.

    Args:
        data: folder of images, as for training.
        out: folder of the runs.
        candidates: of `grid.list_candidates`.
        request: what they are for.
        progress: told of each stage of each network that is trained in this process.
        benchmark: times files where they will run, if that is here or on `request.host`.

    Raises:
        ConfigError: nothing in the grid may meet the budget, or a run in `out` was made with other settings.
        DataError: the images cannot be used. WeightsError: no network's weights can be had.
        MissingDependency: a large grid needs Optuna.
    """
    root, left_out = check_root(data), LeftOut()
    classes = len(list_images(root, find_parts(root, left_out)["train"], left_out))
    place = find_place(request.profile, request.host)
    latencies = {each.name: estimate_latency(each.config, classes, place) for each in candidates}
    work = Trials(data, out, place, request, classes, progress)
    left = _drop_hopeless(candidates, latencies, request, work)
    if not request.full_grid:
        halving.check_installed(left)
    out.mkdir(parents=True, exist_ok=True)
    ordered = _cheapest_first(left, classes)
    work.run_all(ordered)
    # A cluster's workers end in any order.
    scored = {each.name: work.scored[each.name] for each in ordered if each.name in work.scored}
    warnings = [*filter(None, [str(left_out)]), *_merge({name: work.warnings[name] for name in scored})]
    _check_same_images(scored)
    if place.is_timed:
        there = [name for name, found in scored.items() if found.comparison is not None]
        files = [scored[name].file for name in there]
        latencies |= dict(zip(there, measure_latencies(files, benchmark, progress), strict=True))
    rows = [Row(each, latencies[each.name], scored.get(each.name), _reason(each, work)) for each in candidates]
    return replace(conclude(data, request, place, rows), warnings=tuple(warnings))


def _merge(warnings: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each warning once with the networks that it is of; those that several have, and all, are of the images."""
    of: dict[str, list[str]] = {}
    for name, texts in warnings.items():
        for text in texts:
            of.setdefault(text, []).append(name)
    return [text if 1 < len(names) == len(warnings) else f"{some(names)}: {text}" for text, names in of.items()]


def _drop_hopeless(
    candidates: Sequence[Candidate], latencies: Mapping[str, Latency | None], request: Request, work: Trials
) -> list[Candidate]:
    """Return the candidates that are worth training; note of the others why they are not."""
    slow = {each.name: _too_slow(latencies[each.name], request.budget_ms) for each in candidates}
    found = {each.name: slow[each.name] or _lack_of_weights(each) for each in candidates}
    work.left_out |= {name: reason for name, reason in found.items() if reason}
    left = [each for each in candidates if not found[each.name]]
    if not left:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in found.items())
        raise (ConfigError if any(slow.values()) else WeightsError)(f"no network of this grid can be tried:{reasons}")
    return left


def _too_slow(latency: Latency | None, budget_ms: float) -> str:
    if latency is None or latency.low_ms <= budget_ms:
        return ""
    interval = f"{latency.low_ms:.3g} to {latency.high_ms:.3g}"
    return f"not trained: {latency.p50_ms:.3g} ms are expected ({interval}), {budget_ms:g} allowed"


def _lack_of_weights(candidate: Candidate) -> str:
    config = candidate.config
    if not config.uses_backbone:
        return ""
    try:
        find_weights(config.weights, config.image_size, config.alpha)
    except (WeightsError, ConfigError) as error:
        return f"not trained: {error}"
    return ""


def _cheapest_first(candidates: Sequence[Candidate], classes: int) -> list[Candidate]:
    """Return those of one `network` next to each other: something is there early, and a rate to expect more by."""
    cost = {each: count_network(each.config, classes).multiply_adds for each in candidates}
    least: dict[tuple[str, int, float], int] = {}
    for each in candidates:
        least[each.network] = min(cost[each], least.get(each.network, cost[each]))
    return sorted(candidates, key=lambda each: (least[each.network], each.network, each.config.unfreeze, cost[each]))


def _check_same_images(scored: dict[str, Scored]) -> None:
    runs = list(scored.values())
    if other := [each.run for each in runs if each.held_out != runs[0].held_out]:
        raise DataError(
            f"{other[0]} and {runs[0].run} were scored on unlike images: some came or went meanwhile; give --out "
            "another folder"
        )


def _reason(candidate: Candidate, work: Trials) -> str:
    scored = work.scored.get(candidate.name)
    return work.left_out.get(candidate.name, "") or (scored.problem if scored else "")


def conclude(data: Path, request: Request, place: Place, rows: Sequence[Row]) -> Sweep:
    """Return the frontier of all rows that may be shipped, and what to take of it."""
    frontier = find_frontier([point for row in rows if (point := point_of(row))])
    chosen = recommend(frontier, request.budget_ms)
    slower, faster = find_steps(frontier, chosen) if chosen else (None, None)
    known = sorted(rows, key=lambda row: row.latency.p50_ms if row.latency else math.inf)
    return Sweep(data, request, place, tuple(known), frontier, chosen, slower, faster)


def point_of(row: Row) -> Point | None:
    """Return what is compared of a row, or None if it may not be shipped."""
    scored = row.scored
    if row.left_out_because or scored is None or scored.comparison is None or row.latency is None:
        return None
    return Point(row.candidate.name, scored.comparison.accuracy, scored.wrong, row.latency, scored.size_bytes)
