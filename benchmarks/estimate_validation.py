"""How far the model is off: published figures are left out, and predicted from the others.

What a board's figures can tell depends on what is known of it, so there are several ways to leave out, and an estimate
is given the error and the interval of the way that resembles it: its `Grounds`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecls.estimate.figures import Figure, load_processor
from edgecls.estimate.grounds import COVERAGE, TARGETS, Grounds, grounds_of
from edgecls.estimate.model import FIXED, Design, Fit, Run, fit, fit_runs, run_of
from edgecls.estimate.published_networks import published_network

HEADLINE = "mobilenet_v2"
# Spread of an effect in units of the logarithm, before the fit. "free" is for what nothing is known of.
START = {
    "free": 1.0,
    "family": 0.3,
    "processor": 0.2,
    "engine": 0.4,
    "kernels": 0.2,
    "pair": 0.2,
    "threads": 0.15,
    "share": 0.5,
    "size": 0.1,
    "network": 0.1,
    "setting": 0.1,
    # Two published reports of one engine on one board differ by up to 20 %. Larger than that, so that what was measured
    # on a machine outweighs what is published of its kind.
    "own": 0.3,
    "noise": 0.08,
}
LEAST, MOST = 0.05, 1.0


@dataclass(frozen=True)
class Held:
    """A figure that was left out.

    Attributes:
        figure: it.
        grounds: what was known of it.
        predicted_ms: from the others.
        sd: standard deviation of the logarithm, by the model.
    """

    figure: Figure
    grounds: Grounds
    predicted_ms: float
    sd: float

    @property
    def error(self) -> float:
        """Return how far the prediction is off, as a share of the figure."""
        return abs(self.predicted_ms / self.figure.ms - 1)

    @property
    def score(self) -> float:
        """Return how far it is off in standard deviations."""
        return abs(math.log(self.predicted_ms / self.figure.ms)) / self.sd

    @property
    def arch(self) -> str:
        """Return the arch of the figure's network."""
        return published_network(self.figure.model).arch


def by_setting(figure: Figure) -> Hashable:
    """Return what figures share that differ in the network alone."""
    return figure.processor, figure.engine, figure.precision, figure.cores


def by_figure(figure: Figure) -> Hashable:
    """Return what figures share that were measured twice, so that neither tells the other."""
    return by_setting(figure), figure.model


def by_engine(figure: Figure) -> Hashable:
    """Return what one engine's figures of a board share."""
    return figure.processor, figure.engine


def by_board(figure: Figure) -> Hashable:
    """Return what all figures of a board share."""
    return figure.processor


def by_group(figure: Figure) -> Hashable:
    """Return what one engine's figures of a group of processors share."""
    return load_processor(figure.processor).group, figure.engine


def by_network(figure: Figure) -> Hashable:
    """Return what all figures of a network share, whatever its size."""
    return published_network(figure.model).arch


# How figures are left out to test each of the grounds; "measured" has `leave_all_but_one_out`.
SCHEMES: dict[Grounds, Callable[[Figure], Hashable]] = {
    "figure": by_figure,
    "engine": by_engine,
    "board": by_board,
    "new": by_group,
    "network": by_network,
}


def leave_out(figures: Sequence[Figure], key: Callable[[Figure], Hashable]) -> list[Held]:
    """Return the prediction of every figure from those with another `key`, the spreads fitted to these alone."""
    held: list[Held] = []
    for out, rest in _folds(figures, key):
        model, known = fit(rest, fit_spreads(rest)), [run_of(figure) for figure in rest]
        held += [_hold(figure, model, grounds_of(run_of(figure), known)) for figure in out]
    return held


def leave_all_but_one_out(figures: Sequence[Figure]) -> list[Held]:
    """Return what one measurement in a setting tells of another network in it: every pair of figures, in both ways."""
    held: list[Held] = []
    for out, rest in _folds(figures, by_setting):
        if len({figure.model for figure in out}) < 2:
            continue
        spreads, known = fit_spreads(rest), [run_of(figure) for figure in rest]
        for measured in out:
            latencies_ms = [figure.ms for figure in (*rest, measured)]
            model = fit_runs([*known, _own(measured)], latencies_ms, spreads)
            others = [figure for figure in out if figure.model != measured.model]
            held += [_hold(figure, model, "measured", own=True) for figure in others]
    return held


def validate(figures: Sequence[Figure]) -> dict[Grounds, list[Held]]:
    """Return the predictions of all left-out figures by the way in which they were left out."""
    held: dict[Grounds, list[Held]] = {"measured": leave_all_but_one_out(figures)}
    return held | {grounds: leave_out(figures, key) for grounds, key in SCHEMES.items()}


def targets(held: Sequence[Held], grounds: Grounds) -> list[Held]:
    """Return the left-out figures of networks like ours that were predicted on these grounds."""
    if grounds == "network":
        return list(held)
    return [row for row in held if row.grounds == grounds and row.arch in TARGETS]


def quantile(scores: Sequence[float]) -> float:
    """Return how many standard deviations an interval must reach (split conformal prediction, Vovk et al. 2005)."""
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * COVERAGE)
    return ordered[min(rank, len(ordered)) - 1]


def coverage(rows: Sequence[Held]) -> float:
    """Return the share of figures inside their intervals, each interval made from the other boards' figures."""
    boards: dict[Hashable, list[float]] = defaultdict(list)
    for row in rows:
        boards[row.figure.processor].append(row.score)
    inside = 0
    for board, scores in boards.items():
        others = [score for name, found in boards.items() if name != board for score in found]
        inside += sum(score <= quantile(others) for score in scores) if others else 0
    return inside / len(rows)


def median_error(rows: Sequence[Held]) -> float:
    """Return the median of the errors, a share."""
    return float(np.median([row.error for row in rows]))


def _own(figure: Figure) -> Run:
    return replace(run_of(figure), own=True)


def _hold(figure: Figure, model: Fit, grounds: Grounds, own: bool = False) -> Held:
    mean, sd = model.predict(_own(figure) if own else run_of(figure))
    return Held(figure, grounds, math.exp(mean), sd)


def _folds(figures: Sequence[Figure], key: Callable[[Figure], Hashable]) -> Iterable[tuple[list[Figure], list[Figure]]]:
    keys = [key(figure) for figure in figures]
    for left in dict.fromkeys(keys):
        pairs = list(zip(figures, keys, strict=True))
        yield [figure for figure, k in pairs if k == left], [figure for figure, k in pairs if k != left]


def fit_spreads(figures: Sequence[Figure]) -> dict[str, float]:
    """Return the spreads under which the figures are most likely, from `START` on."""
    design = Design([run_of(figure) for figure in figures], [figure.ms for figure in figures])
    spreads, best = dict(START), design.likelihood(START)
    for step in (2.0, 1.4, 1.4, 1.15, 1.15):
        for group in START:
            if group in FIXED:
                continue
            for factor in (step, 1 / step):
                # Walk on as long as it helps. The bounds keep a group from vanishing, or from explaining everything.
                while (tried := spreads | {group: min(max(spreads[group] * factor, LEAST), MOST)}) != spreads:
                    if (found := design.likelihood(tried)) <= best + 1e-9:
                        break
                    spreads, best = tried, found
    return spreads
