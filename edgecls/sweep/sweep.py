"""A whole sweep: which networks can meet the budget, trained, scored and timed, and which of them to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.benchmark.table import format_ms
from edgecls.config import TrainConfig
from edgecls.errors import ConfigError, DataError, WeightsError
from edgecls.estimate.operators import WEIGHT_BYTES, count_network
from edgecls.images.leftovers import LeftOut
from edgecls.messages.lists import some, some_lines
from edgecls.networks.weights import find_weights
from edgecls.progress import Progress, silent
from edgecls.sweep.frontier import Point, Step, find_frontier, find_steps, recommend, recommend_fastest
from edgecls.sweep.grid import NamedNetwork
from edgecls.sweep.latency import (
    Benchmark,
    Deployment,
    Latency,
    benchmark_here,
    estimate_latency,
    find_deployment,
    measure_latencies,
)
from edgecls.sweep.run import ScoredRun
from edgecls.sweep.scan import Scanned
from edgecls.sweep.trials import Request, Trials
from edgecls.training.train import list_images


@dataclass(frozen=True)
class Row:
    """The result of a candidate."""

    candidate: NamedNetwork  # the network
    latency: Latency | None  # measured or estimated; None if neither
    scored: ScoredRun | None  # None if it was not trained
    left_out_because: str  # why it cannot be recommended, or ""


@dataclass(frozen=True)
class Sweep:
    """What a sweep found."""

    data: Path  # the folder of images
    request: Request  # what was asked for
    deployment: Deployment  # where the files will run
    rows: tuple[Row, ...]  # one for each candidate, the fastest first
    frontier: tuple[Point, ...]  # the fastest first
    recommended: Point | None  # None if none meets the limits
    slower: Step | None  # the next step up
    faster: Step | None  # the next step down
    warnings: tuple[str, ...] = ()  # of the trainings in this call
    scanned: tuple[Scanned, ...] = ()  # networks that a search has looked at
    default: str = ""  # name of the network that a search compares with

    def standing(self, row: Row) -> str:
        """Return "out", "recommended", "frontier" or "slower"."""
        name = row.candidate.name
        if row.left_out_because:
            return "out"
        if self.recommended and name == self.recommended.name:
            return "recommended"
        return "frontier" if any(point.name == name for point in self.frontier) else "slower"


def sweep(
    data: Path,
    out: Path,
    candidates: Sequence[NamedNetwork],
    request: Request,
    progress: Progress = silent,
    benchmark: Benchmark = benchmark_here,
) -> Sweep:
    """Return the frontier of the candidates; each that was trained has a run folder in `out`.

    Called again with the same arguments, it continues where it was interrupted.

    Args:
        data: folder of images, as for training; the networks' `more_data` may name others.
        out: folder of the runs.
        candidates: of `grid.list_candidates`.
        request: what is asked of them.
        progress: told of each stage of each network that is trained in this process.
        benchmark: times files where they will run, if that is here or on `request.host`.

    Raises:
        ConfigError: nothing in the grid can meet the budget, or a run in `out` was made with other settings.
        DataError: the images cannot be used. WeightsError: no network's weights are available.
    """
    classes = len(list_images(data, candidates[0].config, left_out := LeftOut()).classes)
    deployment = find_deployment(request.profile, request.host)
    latencies = {each.name: estimate_latency(each.config, classes, deployment) for each in candidates}
    work = Trials(data, out, deployment, request, classes, progress)
    possible = _drop_impossible(candidates, latencies, request, deployment, classes, work)
    ordered = _cheapest_first(possible, classes)
    out.mkdir(parents=True, exist_ok=True)
    work.run_all(ordered)
    # A cluster's workers finish in any order.
    scored = {each.name: work.scored[each.name] for each in ordered if each.name in work.scored}
    warnings = [*filter(None, [str(left_out)]), *_merge({name: work.warnings[name] for name in scored})]
    _check_same_images(scored)
    if deployment.is_timed:
        latencies |= _time(scored, benchmark, progress)
    rows = [Row(each, latencies[each.name], scored.get(each.name), _reason(each, work, request)) for each in candidates]
    return replace(conclude(data, request, deployment, rows), warnings=tuple(warnings))


def _time(scored: Mapping[str, ScoredRun], benchmark: Benchmark, progress: Progress) -> dict[str, Latency | None]:
    """Return the measured latency of each network that has a file, by its name."""
    files = {name: found.file for name, found in scored.items() if found.comparison is not None}
    return dict(zip(files, measure_latencies(list(files.values()), benchmark, progress), strict=True))


def _merge(warnings: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each warning once with its networks; a warning that all of several networks have is about the images."""
    of: dict[str, list[str]] = {}
    for name, texts in warnings.items():
        for text in texts:
            of.setdefault(text, []).append(name)
    return [text if 1 < len(names) == len(warnings) else f"{some(names)}: {text}" for text, names in of.items()]


def _drop_impossible(
    candidates: Sequence[NamedNetwork],
    latencies: Mapping[str, Latency | None],
    request: Request,
    deployment: Deployment,
    classes: int,
    work: Trials,
) -> list[NamedNetwork]:
    """Return the candidates that are worth training, and keep the reason for each of the others."""
    slow = {each.name: too_slow(latencies[each.name], request.budget_ms) for each in candidates}
    large = {each.name: too_large(each.config, classes, deployment, request.max_size_bytes) for each in candidates}
    found = {each.name: slow[each.name] or large[each.name] or _lack_of_weights(each) for each in candidates}
    work.left_out |= {name: reason for name, reason in found.items() if reason}
    left = [each for each in candidates if not found[each.name]]
    if not left and all(slow.values()):
        fastest = min(latency.p50_ms for latency in latencies.values() if latency)
        count = {1: "The network is", 2: "Both networks are"}.get(len(slow), f"All {len(slow)} networks are")
        raise ConfigError(
            f"{count} too slow: the fastest needs {format_ms(fastest, estimated=True)} ms, the budget is "
            f"{request.budget_ms:g} ms. Raise --budget, or try smaller networks with --image-size and --alpha."
        )
    if not left:
        reasons = some_lines(f"{name}: {reason}" for name, reason in found.items())
        limits = any(slow.values()) or any(large.values())
        raise (ConfigError if limits else WeightsError)(f"no network can be trained:{reasons}")
    return left


def too_slow(latency: Latency | None, budget_ms: float | None) -> str:
    """Return why an untrained network is expected to miss the budget, or ""."""
    if latency is None or budget_ms is None or latency.low_ms <= budget_ms:
        return ""
    p50, low, high = (format_ms(ms, estimated=True) for ms in (latency.p50_ms, latency.low_ms, latency.high_ms))
    return f"not trained: it is expected to need {p50} ms ({low} to {high}), the budget is {budget_ms:g} ms"


def too_large(config: TrainConfig, classes: int, deployment: Deployment, most_bytes: int | None) -> str:
    """Return why the file of an untrained network cannot have `most_bytes` bytes or fewer, or ""."""
    least = count_network(config, classes).weights * WEIGHT_BYTES[deployment.precision]
    if most_bytes is None or least <= most_bytes:
        return ""
    return f"not trained: its weights alone need {least:,} bytes, the file may have {most_bytes:,}"


def _lack_of_weights(candidate: NamedNetwork) -> str:
    config = candidate.config
    if not config.uses_backbone:
        return ""
    try:
        find_weights(config.weights, config.image_size, config.alpha)
    except (WeightsError, ConfigError) as error:
        return f"not trained: {error}"
    return ""


def _cheapest_first(candidates: Sequence[NamedNetwork], classes: int) -> list[NamedNetwork]:
    """Return the cheapest first, so that a result is there early; those of one `network` stay next to each other."""
    cost = {each: count_network(each.config, classes).multiply_adds for each in candidates}
    least: dict[tuple[str, int, float, int], int] = {}
    for each in candidates:
        least[each.network] = min(cost[each], least.get(each.network, cost[each]))
    return sorted(
        candidates, key=lambda each: (least[each.network], each.network, each.config.unfreeze or 0, cost[each])
    )


def _check_same_images(scored: dict[str, ScoredRun]) -> None:
    runs = list(scored.values())
    if other := [each.run for each in runs if each.held_out != runs[0].held_out]:
        raise DataError(
            f"{other[0]} and {runs[0].run} were scored on different images, because the folder changed meanwhile; give "
            "--out another folder"
        )


def _reason(candidate: NamedNetwork, work: Trials, request: Request) -> str:
    scored, most = work.scored.get(candidate.name), request.max_size_bytes
    if reason := work.left_out.get(candidate.name, "") or (scored.problem if scored else ""):
        return reason
    if scored and most is not None and scored.size_bytes > most:
        return f"its file has {scored.size_bytes:,} bytes, it may have {most:,}"
    return ""


def conclude(data: Path, request: Request, deployment: Deployment, rows: Sequence[Row]) -> Sweep:
    """Return the sweep with its frontier and the recommended network."""
    points = [point for row in rows if (point := point_of(row))]
    frontier = find_frontier(points)
    if request.max_loss is None:
        chosen = recommend(frontier, request.budget_ms)
    else:
        chosen = recommend_fastest(points, request.budget_ms, request.max_loss, request.before)
    slower, faster = find_steps(frontier, chosen) if chosen else (None, None)
    known = sorted(rows, key=lambda row: row.latency.p50_ms if row.latency else math.inf)
    return Sweep(data, request, deployment, tuple(known), frontier, chosen, slower, faster)


def point_of(row: Row) -> Point | None:
    """Return the row as a point of the frontier, or None if its file cannot be shipped."""
    scored = row.scored
    if row.left_out_because or scored is None or scored.comparison is None or row.latency is None:
        return None
    return Point(
        row.candidate.name,
        scored.comparison.accuracy,
        scored.wrong,
        row.latency,
        scored.size_bytes,
        scored.val_accuracy,
        scored.val_images,
    )
