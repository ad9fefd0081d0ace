"""The search for the smallest network that keeps the accuracy: a scan of all depths and sizes, then real trainings.

The scan (scan.py) costs seconds for each network. Only a few are trained as by `edgecls train`, exported and timed,
beside the whole network: the fastest that keeps the scan's best accuracy, and faster ones that lose a little more,
as fine-tuning makes up for some of it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.estimate.model import relative_cost
from edgecls.estimate.operators import count_network
from edgecls.images.leftovers import LeftOut
from edgecls.progress import Progress, silent
from edgecls.sweep.frontier import Before
from edgecls.sweep.grid import SIZES, NamedNetwork, name_of
from edgecls.sweep.latency import Benchmark, Deployment, benchmark_here, estimate_latency, find_deployment
from edgecls.sweep.scan import Scanned, scan
from edgecls.sweep.sweep import Sweep, sweep, too_large, too_slow
from edgecls.sweep.trials import Request
from edgecls.training.train import list_images

# The trainings, exports and timings after the scan need the rest of a time budget.
SCAN_FRACTION = 0.4
# Networks are trained that lose up to so many times what may be lost. Fine-tuning may make up for the rest.
HOPEFUL_LOSSES = (4.0, 2.0)

Cost = Callable[[TrainConfig], float]


def search(
    data: Path,
    out: Path,
    base: TrainConfig,
    request: Request,
    sizes: Sequence[int] = SIZES,
    progress: Progress = silent,
    benchmark: Benchmark = benchmark_here,
) -> Sweep:
    """Return the whole network and the shortlist of all depths and `sizes`, trained and timed, and which to take.

    Args:
        data: folder of images, as for training.
        out: folder of the runs.
        base: settings of all networks; its own image size is that of the whole network.
        request: what is asked of the networks; it has a `max_loss`.
        sizes: image sizes in pixels.
        progress: called at each stage.
        benchmark: times files where they will run.

    Raises:
        ConfigError: no network can meet the limits. And as of `sweep.sweep` and `scan.scan`.
    """
    assert request.max_loss is not None, "a search recommends the fastest"
    began, max_loss, deployment = time.monotonic(), request.max_loss, find_deployment(request.profile, request.host)
    classes = len(list_images(data, base, LeftOut()).classes)
    cost = _cost(classes, deployment)
    scanned, warnings = _scan(data, out, base, request, sizes, progress)
    possible = _without_obstacle(scanned, classes, deployment, request)

    def train(chosen: Sequence[Scanned]) -> Sweep:
        candidates = [NamedNetwork(name_of(c), c) for c in dict.fromkeys([*(each.config for each in chosen), base])]
        asked = _what_remains(began, request, _before(scanned, base))
        return sweep(data, out, candidates, asked, progress, benchmark)

    found = train(chosen := shortlist(possible, cost, max_loss))
    if found.recommended is None and (faster := _fast_enough(possible, found, request.budget_ms, cost)):
        found = train([*chosen, *shortlist(faster, cost, max_loss)])
    warnings += found.warnings
    return dataclasses.replace(found, scanned=tuple(scanned), default=name_of(base), warnings=tuple(warnings))


def _scan(
    data: Path, out: Path, base: TrainConfig, request: Request, sizes: Sequence[int], progress: Progress
) -> tuple[list[Scanned], list[str]]:
    """Return the networks of all sizes for which there is time, and a warning about the others."""
    began = time.monotonic()
    found: list[Scanned] = []
    for networks in scan(data, out / "scan", base, sorted(sizes), progress):
        found += networks
        size, budget = networks[0].config.image_size, request.time_budget_s
        if size < max(sizes) and budget is not None and time.monotonic() - began > SCAN_FRACTION * budget:
            return found, [f"--time-budget left no time for image sizes above {size} pixels"]
    return found, []


def _without_obstacle(
    scanned: Sequence[Scanned], classes: int, deployment: Deployment, request: Request
) -> list[Scanned]:
    """Return the networks that can meet the limits.

    Raises:
        ConfigError: none can.
    """
    obstacles = []
    for each in scanned:
        latency = estimate_latency(each.config, classes, deployment)
        obstacles.append(
            too_slow(latency, request.budget_ms) or too_large(each.config, classes, deployment, request.max_size_bytes)
        )
    if all(obstacles):
        raise ConfigError(f"no network meets the limits. {name_of(scanned[0].config)}: {obstacles[0]}")
    return [each for each, obstacle in zip(scanned, obstacles, strict=True) if not obstacle]


def _before(scanned: Sequence[Scanned], base: TrainConfig) -> Before:
    """Return what the scan says of the networks."""
    accuracies = {name_of(each.config): each.accuracy for each in scanned}
    return Before(accuracies, len(scanned[0].correct), name_of(base))


def _what_remains(began: float, request: Request, before: Before) -> Request:
    """Return the request with what is left of its time budget, and with what the scan says of the networks."""
    asked = dataclasses.replace(request, before=before)
    if request.time_budget_s is None:
        return asked
    return dataclasses.replace(asked, time_budget_s=max(1.0, request.time_budget_s - (time.monotonic() - began)))


def _fast_enough(possible: Sequence[Scanned], found: Sweep, budget_ms: float | None, cost: Cost) -> list[Scanned]:
    """Return the networks that should meet the budget, now that it is known how long the fastest one takes here."""
    rates = [row.latency.p50_ms / cost(row.candidate.config) for row in found.rows if row.latency]
    if budget_ms is None or not rates:
        return []
    return [each for each in possible if min(rates) * cost(each.config) <= budget_ms]


def shortlist(scanned: Sequence[Scanned], cost: Cost, max_loss: float) -> list[Scanned]:
    """Return the cheapest network that loses at most `max_loss` against the best, and cheaper ones that lose more.

    The best of a hundred looks better than it is, so a network that comes this near to it does not fall behind by more.
    """
    by_cost = sorted(scanned, key=lambda each: cost(each.config))
    best = max(each.accuracy for each in scanned) - 1e-9
    losses = [factor * max_loss for factor in (*HOPEFUL_LOSSES, 1.0)]
    return list(dict.fromkeys(next(e for e in by_cost if e.accuracy >= best - loss) for loss in losses))


def _cost(classes: int, deployment: Deployment) -> Cost:
    """Return what a network costs: its estimated latency on the board, or a relative cost on this machine."""

    def cost(config: TrainConfig) -> float:
        latency = estimate_latency(config, classes, deployment)
        return latency.p50_ms if latency else relative_cost(count_network(config, classes))

    return cost
