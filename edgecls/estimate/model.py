"""The latency model: ridge regression on the logarithm of published latencies.

The logarithm of a latency is that of the work over the processor's nominal speed, plus learned effects: of the
processor, its family, the engine, the precision, the threads, the kind of operator, and of combinations of these.
Each effect is drawn towards zero, the more the smaller the prior scale of its group is. A board with few latencies
therefore takes from its family and from others what its own latencies do not say (a Bayesian linear model; Rasmussen
and Williams 2006, chapter 2). The prior scales are fitted by maximum likelihood.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecls.estimate.operators import Network
from edgecls.estimate.published_latencies import MachineKind, Processor, PublishedLatency, load_processor
from edgecls.estimate.published_networks import published_network

Array = NDArray[np.float64]
# The assumed cost of one multiply-add of each kind, one value read or written, one operator and one image, before
# the latencies correct it, in multiply-adds of a pointwise convolution. Depthwise and dense layers do few multiply-adds
# for each byte they fetch. The Edge TPU's are solved from three published latencies of the Coral Dev Board.
COSTS: dict[MachineKind, dict[str, float]] = {
    "cpu": {"depthwise": 3, "convolution": 1, "dense": 4, "values": 2, "operator": 1e5, "image": 0},
    "edgetpu": {"depthwise": 1, "convolution": 1, "dense": 1, "values": 0, "operator": 2.4e7, "image": 8e8},
    "gpu": {"depthwise": 1, "convolution": 1, "dense": 1, "values": 0, "operator": 1e8, "image": 0},
}
# Used where no source states the clock; the processor's own effect corrects it.
USUAL_GHZ = 1.5
# Four threads on the published boards are 1.4 to 3.3 times as fast as one; the latencies correct it.
USUAL_SCALING = 0.6
# Cores beyond these hardly help with a network of a few milliseconds.
MAX_CORES = 8
# What is known when a latency is predicted, from the most to the least:
# "measured": another network on the same board, with the same engine, precision and threads;
# "latency": latencies of this engine on the board;
# "engine": latencies of other engines on the board, and of this engine on other boards of its group;
# "board": latencies of this engine on other boards of the group only;
# "new": no latency of this engine on any processor of the group.
# "network" stands apart: no latency of the network on any board, whatever else is known.
Evidence = Literal["measured", "latency", "engine", "board", "new", "network"]
# Fraction of the latencies that an interval is expected to hold.
COVERAGE = 0.8
# The networks that resemble ours: their errors give the intervals.
TARGETS = ("mobilenet_v1", "mobilenet_v2")
FIXED = ("free", "own")
USUAL_NETWORK = "MobileNetV2 1.0, 224x224"


@dataclass(frozen=True)
class Run:
    """A network on a machine: all that a latency depends on."""

    network: Network  # its operators
    processor: Processor  # that computes it
    engine: str  # as published latencies name it
    precision: str  # "fp32", "fp16" or "int8"
    cores: int  # that work on it
    own: bool = False  # True on the machine that was measured, with its cooling, system and versions


def run_of(latency: PublishedLatency) -> Run:
    """Return what a published latency depends on."""
    processor = load_processor(latency.processor)
    if latency.ghz:
        processor = replace(processor, ghz=latency.ghz)
    return Run(published_network(latency.model), processor, latency.engine, latency.precision, latency.cores)


@dataclass(frozen=True, eq=False)
class Fit:
    """The fitted model.

    Attributes:
        whitening: float64 (N, N), lower triangular: the inverse of the Cholesky factor of the latencies' covariance.
    """

    columns: dict[str, int]  # of the effects, by name
    scaled: Array  # float64 (N, columns): the effects of each latency times their groups' prior scales
    whitening: Array
    solved: Array  # float64 (N,): the covariance's inverse times what the nominal speeds leave unexplained
    prior_scales: Mapping[str, float]  # of each group of effects

    def predict(self, run: Run) -> tuple[float, float]:
        """Return the logarithm of the latency in ms, and its standard deviation."""
        row, unseen = np.zeros(len(self.columns)), 0.0
        for group, name, value in effects(run):
            amount = value * self.prior_scales[group]
            if name in self.columns:
                row[self.columns[name]] = amount
            else:
                unseen += amount**2
        shared: Array = self.scaled @ row
        known = self.whitening @ shared
        variance = float(row @ row - known @ known) + unseen + self.prior_scales["noise"] ** 2
        return nominal(run) + float(shared @ self.solved), math.sqrt(max(variance, 0.0))

    def find_similarity(self, run: Run) -> Array:
        """Return the similarity of each latency's effects to those of `run`, float64 (N,), 0..1."""
        row = np.zeros(len(self.columns))
        for group, name, value in effects(run):
            if name in self.columns and group not in FIXED:
                row[self.columns[name]] = value * self.prior_scales[group]
        lengths = np.linalg.norm(self.scaled, axis=1) * (np.linalg.norm(row) or 1.0)
        similarity: Array = np.clip(self.scaled @ row / lengths, 0, 1)
        return similarity


def nominal(run: Run) -> float:
    """Return the logarithm of the latency in ms if every engine reached the same fraction of a processor's peak."""
    speed = (run.processor.ghz or USUAL_GHZ) * run.processor.macs[run.precision == "int8"]
    return math.log(sum(work(run).values()) / 1e6 / speed) - USUAL_SCALING * _log_cores(run)


def work(run: Run) -> dict[str, float]:
    """Return the cost of each kind of operator, of the values moved and of all operators, in multiply-adds."""
    return _work(run.network, COSTS[run.processor.kind])


def _work(network: Network, costs: Mapping[str, float]) -> dict[str, float]:
    kinds = {kind: network.multiply_adds_of(kind) * costs[kind] for kind in ("depthwise", "convolution", "dense")}
    amounts = {"values": network.values, "operator": len(network.operators), "image": 1}
    rest = {name: amount * costs[name] for name, amount in amounts.items()}
    return {"pointwise": float(network.multiply_adds_of("pointwise"))} | kinds | rest


def relative_cost(network: Network) -> float:
    """Return what a network costs on a processor of which nothing is known, in multiply-adds; for comparisons only."""
    return sum(_work(network, COSTS["cpu"]).values())


def effects(run: Run) -> Iterator[tuple[str, str, float]]:
    """Yield (group, name, amount) of each effect on a latency."""
    processor, engine = run.processor, run.engine
    kind, group, chip, kernels = processor.kind, processor.group, processor.name, _kernels(run)
    named = {
        "free": (kind, f"{kind} {kernels}"),
        "family": (group, processor.family, f"{processor.family} {kernels}"),
        "processor": (chip,),
        "engine": (f"{kind} {engine}", f"{kind} {engine} {kernels}"),
        "kernels": (f"{group} {engine}", f"{group} {engine} {kernels}"),
        "pair": (f"{chip} {engine}", f"{chip} {kernels}"),
        "network": (f"{run.network.arch} {kind}", f"{run.network.arch} {engine} {run.precision}"),
        "setting": (f"{chip} {engine} {run.precision} {run.cores}",),
    }
    if run.own:
        named["own"] = (chip, f"{chip} {engine}", f"{chip} {engine} {kernels}")
    for prior_scale, names in named.items():
        for name in names:
            # The group is part of the name: an engine may be called as its kernels are.
            yield prior_scale, f"{prior_scale} {name}", 1.0
    for name in (kind, group, chip, engine, f"{engine} {run.precision}", f"{chip} {engine}"):
        yield "threads", f"threads {name}", _log_cores(run)
    for name in (kind, group, chip, engine, f"{engine} {kernels}"):
        # The time of smaller networks falls less than their work, and even less with more threads.
        yield "size", f"size {name}", _log_size(run)
        yield "size", f"size and threads {name}", _log_size(run) * _log_cores(run)
    yield from _shares(run)


def _shares(run: Run) -> Iterator[tuple[str, str, float]]:
    """Yield the effect of each kind of work by its fraction of all work, which corrects `COSTS`."""
    kind, group, kernels = run.processor.kind, run.processor.group, _kernels(run)
    costs = work(run)
    total = sum(costs.values())
    for part, cost in costs.items():
        if part != "pointwise" and cost:
            for name in (f"{kind} {run.precision}", run.engine, f"{run.engine} {kernels}", group):
                yield "share", f"{part} of {name}", cost / total


def _kernels(run: Run) -> str:
    return f"{run.precision} with dot products" if run.precision == "int8" and run.processor.wide else run.precision


def fit(latencies: Sequence[PublishedLatency], prior_scales: Mapping[str, float]) -> Fit:
    """Return the model fitted to latencies."""
    return fit_runs([run_of(latency) for latency in latencies], [latency.ms for latency in latencies], prior_scales)


def fit_runs(runs: Sequence[Run], latencies_ms: Sequence[float], prior_scales: Mapping[str, float]) -> Fit:
    """Return the model fitted to the latencies of runs."""
    design = Design(runs, latencies_ms)
    scaled, factor, solved = design.solve(prior_scales)
    return Fit(design.columns, scaled, np.asarray(np.linalg.inv(factor), np.float64), solved, dict(prior_scales))


def _log_cores(run: Run) -> float:
    return math.log(min(run.cores, MAX_CORES))


def _log_size(run: Run) -> float:
    return math.log(sum(work(run).values()) / _usual_work(run.processor.kind))


@functools.cache
def _usual_work(kind: MachineKind) -> float:
    """Return the work of the network that most latencies are of."""
    costs, network = COSTS[kind], published_network(USUAL_NETWORK)
    return sum(_work(network, costs).values())


class Design:
    """The regression's matrix, to be solved for many prior scales."""

    def __init__(self, runs: Sequence[Run], latencies_ms: Sequence[float]) -> None:
        self.columns: dict[str, int] = {}
        cells: list[tuple[int, int, float]] = []
        groups: dict[int, str] = {}
        for row, run in enumerate(runs):
            for group, name, value in effects(run):
                column = self.columns.setdefault(name, len(self.columns))
                groups[column] = group
                cells.append((row, column, value))
        self.matrix: Array = np.zeros((len(runs), len(self.columns)))
        for row, column, value in cells:
            self.matrix[row, column] = value
        self.groups = [groups[column] for column in range(len(self.columns))]
        self.unexplained = np.log(np.array(latencies_ms)) - np.array([nominal(run) for run in runs])

    def solve(self, prior_scales: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Return the scaled matrix, the factor of its covariance, and what that solves to."""
        scaled = self.matrix * np.array([prior_scales[group] for group in self.groups])
        covariance = scaled @ scaled.T
        covariance[np.diag_indices_from(covariance)] += prior_scales["noise"] ** 2
        factor = np.linalg.cholesky(covariance)
        solved: Any = np.linalg.solve(factor.T, np.linalg.solve(factor, self.unexplained))
        return scaled, factor, solved


def find_evidence(run: Run, known: Iterable[Run]) -> Evidence:
    """Return what is known of `run`, given the runs whose latencies are known; never "measured" or "network"."""
    processor, engine = run.processor, run.engine
    runs = list(known)
    if any((other.processor.name, other.engine) == (processor.name, engine) for other in runs):
        return "latency"
    if not any((other.processor.group, other.engine) == (processor.group, engine) for other in runs):
        return "new"
    return "engine" if any(other.processor.name == processor.name for other in runs) else "board"
