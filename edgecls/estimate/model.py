"""The latency model: ridge regression on the logarithm of published latencies.

The logarithm of a latency is that of the work over the processor's nominal speed, plus effects that are learnt: of the
processor, its family, the engine, the precision, the threads, the kind of operator and of what some of these do
together. Each effect is drawn towards zero, the more the smaller its group's spread is, so that a board with few
figures takes from its family and from others what its own figures do not say (a Bayesian linear model; Rasmussen and
Williams 2006, chapter 2). The spreads are fitted by maximum likelihood.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.estimate.figures import Figure, MachineKind, Processor, load_processor
from edgecls.estimate.operators import Network
from edgecls.estimate.published_networks import published_network

Array = NDArray[np.float64]
# What one multiply-add of each kind, one value read or written, one operator and one image are taken to cost before
# the figures correct it, in multiply-adds of a pointwise convolution. Depthwise and dense layers do few multiply-adds
# for each byte they fetch. The Edge TPU's are solved from three published latencies of the Coral Dev Board.
COSTS: dict[MachineKind, dict[str, float]] = {
    "cpu": {"depthwise": 3, "convolution": 1, "dense": 4, "values": 2, "operator": 1e5, "image": 0},
    "edgetpu": {"depthwise": 1, "convolution": 1, "dense": 1, "values": 0, "operator": 2.4e7, "image": 8e8},
    "gpu": {"depthwise": 1, "convolution": 1, "dense": 1, "values": 0, "operator": 1e8, "image": 0},
}
# Where no source states the clock: what is wrong with it goes into the processor's own effect.
USUAL_GHZ = 1.5
# Four threads on the published boards are 1.4 to 3.3 times as fast as one; the figures correct it.
USUAL_SCALING = 0.6
# Cores beyond these hardly help with a network of a few milliseconds.
MAX_CORES = 8
FIXED = ("free", "own")
USUAL_NETWORK = "MobileNetV2 1.0, 224x224"


@dataclass(frozen=True)
class Run:
    """A network on a machine: what a latency depends on.

    Attributes:
        network: its operators.
        processor: that computes it.
        engine: as published latencies name it.
        precision: "fp32", "fp16" or "int8".
        cores: that work on it.
        own: True on the very machine that was measured, with its cooling, system and versions.
    """

    network: Network
    processor: Processor
    engine: str
    precision: str
    cores: int
    own: bool = False


def run_of(figure: Figure) -> Run:
    """Return what a published latency depends on."""
    processor = load_processor(figure.processor)
    if figure.ghz:
        processor = replace(processor, ghz=figure.ghz)
    return Run(published_network(figure.model), processor, figure.engine, figure.precision, figure.cores)


@dataclass(frozen=True, eq=False)
class Fit:
    """The fitted model.

    Attributes:
        columns: of the effects, by name.
        scaled: float64 (N, columns): the effects of each figure times their groups' spreads.
        whitening: float64 (N, N), lower triangular: the inverse of the Cholesky factor of the figures' covariance.
        solved: float64 (N,): the covariance's inverse times what the nominal speeds leave unexplained.
        spreads: of each group of effects.
    """

    columns: dict[str, int]
    scaled: Array
    whitening: Array
    solved: Array
    spreads: Mapping[str, float]

    def predict(self, run: Run) -> tuple[float, float]:
        """Return the logarithm of the latency in ms, and its standard deviation."""
        row, unseen = np.zeros(len(self.columns)), 0.0
        for group, name, value in effects(run):
            amount = value * self.spreads[group]
            if name in self.columns:
                row[self.columns[name]] = amount
            else:
                unseen += amount**2
        shared: Array = self.scaled @ row
        known = self.whitening @ shared
        variance = float(row @ row - known @ known) + unseen + self.spreads["noise"] ** 2
        return nominal(run) + float(shared @ self.solved), math.sqrt(max(variance, 0.0))

    def leans_on(self, run: Run) -> Array:
        """Return how much each figure's effects have in common with those of `run`, float64 (N,), 0..1."""
        row = np.zeros(len(self.columns))
        for group, name, value in effects(run):
            if name in self.columns and group not in FIXED:
                row[self.columns[name]] = value * self.spreads[group]
        lengths = np.linalg.norm(self.scaled, axis=1) * (np.linalg.norm(row) or 1.0)
        shares: Array = np.clip(self.scaled @ row / lengths, 0, 1)
        return shares


def nominal(run: Run) -> float:
    """Return the logarithm of the latency in ms if every engine reached the same share of a processor's peak."""
    speed = (run.processor.ghz or USUAL_GHZ) * run.processor.macs[run.precision == "int8"]
    return math.log(sum(work(run).values()) / 1e6 / speed) - USUAL_SCALING * _log_cores(run)


def work(run: Run) -> dict[str, float]:
    """Return what each kind of operator, the values moved and the operators' number cost, in multiply-adds."""
    return _work(run.network, COSTS[run.processor.kind])


def _work(network: Network, costs: Mapping[str, float]) -> dict[str, float]:
    kinds = {kind: network.multiply_adds_of(kind) * costs[kind] for kind in ("depthwise", "convolution", "dense")}
    amounts = {"values": network.values, "operator": len(network.operators), "image": 1}
    rest = {name: amount * costs[name] for name, amount in amounts.items()}
    return {"pointwise": float(network.multiply_adds_of("pointwise"))} | kinds | rest


def effects(run: Run) -> Iterator[tuple[str, str, float]]:
    """Yield (group of spreads, name, amount) of each effect on a latency."""
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
    for spread, names in named.items():
        for name in names:
            # The group is part of the name: an engine may be called as its kernels are.
            yield spread, f"{spread} {name}", 1.0
    for name in (kind, group, chip, engine, f"{engine} {run.precision}", f"{chip} {engine}"):
        yield "threads", f"threads {name}", _log_cores(run)
    for name in (kind, group, chip, engine, f"{engine} {kernels}"):
        # How much less than the work the time of smaller networks falls, and how much less still with more threads.
        yield "size", f"size {name}", _log_size(run)
        yield "size", f"size and threads {name}", _log_size(run) * _log_cores(run)
    yield from _shares(run)


def _shares(run: Run) -> Iterator[tuple[str, str, float]]:
    """Yield the effect of each kind of work by its share of all work: what `COSTS` says too little or too much."""
    kind, group, kernels = run.processor.kind, run.processor.group, _kernels(run)
    costs = work(run)
    total = sum(costs.values())
    for part, cost in costs.items():
        if part != "pointwise" and cost:
            for name in (f"{kind} {run.precision}", run.engine, f"{run.engine} {kernels}", group):
                yield "share", f"{part} of {name}", cost / total


def _kernels(run: Run) -> str:
    return f"{run.precision} with dot products" if run.precision == "int8" and run.processor.wide else run.precision


def fit(figures: Sequence[Figure], spreads: Mapping[str, float]) -> Fit:
    """Return the model fitted to figures."""
    return fit_runs([run_of(figure) for figure in figures], [figure.ms for figure in figures], spreads)


def fit_runs(runs: Sequence[Run], latencies_ms: Sequence[float], spreads: Mapping[str, float]) -> Fit:
    """Return the model fitted to the latencies of runs."""
    design = Design(runs, latencies_ms)
    scaled, factor, solved = design.solve(spreads)
    return Fit(design.columns, scaled, np.asarray(np.linalg.inv(factor), np.float64), solved, dict(spreads))


def _log_cores(run: Run) -> float:
    return math.log(min(run.cores, MAX_CORES))


def _log_size(run: Run) -> float:
    return math.log(sum(work(run).values()) / _usual_work(run.processor.kind))


@functools.cache
def _usual_work(kind: MachineKind) -> float:
    """Return the work of the network that most figures are of."""
    costs, network = COSTS[kind], published_network(USUAL_NETWORK)
    return sum(_work(network, costs).values())


class Design:
    """The regression's matrix, to be solved for many spreads."""

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

    def solve(self, spreads: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Return the scaled matrix, the factor of its covariance, and what that solves to."""
        scaled = self.matrix * np.array([spreads[group] for group in self.groups])
        covariance = scaled @ scaled.T
        covariance[np.diag_indices_from(covariance)] += spreads["noise"] ** 2
        factor = np.linalg.cholesky(covariance)
        solved: Any = np.linalg.solve(factor.T, np.linalg.solve(factor, self.unexplained))
        return scaled, factor, solved

    def likelihood(self, spreads: Mapping[str, float]) -> float:
        """Return the logarithm of the likelihood, constants left out."""
        _, factor, solved = self.solve(spreads)
        return float(-0.5 * self.unexplained @ solved - np.log(np.diag(factor)).sum())
