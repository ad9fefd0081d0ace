"""The error of the latency model: published latencies are left out, and predicted from the others.

The error depends on what is known of a board, so there are several ways to leave latencies out. An estimate gets the
error and the interval of the way that resembles it: its `Evidence`.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecls.boards.profiles import ProfileLatency, load_profiles, read_table
from edgecls.estimate.model import (
    COVERAGE,
    FIXED,
    TARGETS,
    Design,
    Evidence,
    Fit,
    Run,
    find_evidence,
    fit,
    fit_runs,
    run_of,
)
from edgecls.estimate.published_latencies import PublishedLatency, load_processor
from edgecls.estimate.published_networks import published_network

HEADLINE = "mobilenet_v2"
# Prior scale of an effect in units of the logarithm, before the fit. "free" is for effects of unknown size.
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
    # Two published reports of one engine on one board differ by up to 20 %. This is larger, so that a measurement on a
    # machine outweighs what is published about machines like it.
    "own": 0.3,
    "noise": 0.08,
}
LEAST, MOST = 0.05, 1.0


@dataclass(frozen=True)
class Held:
    """A latency that was left out."""

    latency: PublishedLatency  # the published one
    evidence: Evidence  # what was known of it
    predicted_ms: float  # from the others
    sd: float  # standard deviation of the logarithm, by the model

    @property
    def error(self) -> float:
        """Return the relative error of the prediction."""
        return abs(self.predicted_ms / self.latency.ms - 1)

    @property
    def score(self) -> float:
        """Return the error in standard deviations."""
        return abs(math.log(self.predicted_ms / self.latency.ms)) / self.sd

    @property
    def arch(self) -> str:
        """Return the arch of the latency's network."""
        return published_network(self.latency.model).arch


def by_setting(latency: PublishedLatency) -> Hashable:
    """Return what latencies share that differ only in the network."""
    return latency.processor, latency.engine, latency.precision, latency.cores


def by_latency(latency: PublishedLatency) -> Hashable:
    """Return what latencies of the same thing share, so that neither predicts the other."""
    return by_setting(latency), latency.model


def by_engine(latency: PublishedLatency) -> Hashable:
    """Return what one engine's latencies of a board share."""
    return latency.processor, latency.engine


def by_board(latency: PublishedLatency) -> Hashable:
    """Return what all latencies of a board share."""
    return latency.processor


def by_group(latency: PublishedLatency) -> Hashable:
    """Return what one engine's latencies of a group of processors share."""
    return load_processor(latency.processor).group, latency.engine


def by_network(latency: PublishedLatency) -> Hashable:
    """Return what all latencies of a network share, whatever its size."""
    return published_network(latency.model).arch


# How latencies are left out to test each kind of evidence; "measured" has `leave_all_but_one_out`.
SCHEMES: dict[Evidence, Callable[[PublishedLatency], Hashable]] = {
    "latency": by_latency,
    "engine": by_engine,
    "board": by_board,
    "new": by_group,
    "network": by_network,
}


def leave_out(latencies: Sequence[PublishedLatency], key: Callable[[PublishedLatency], Hashable]) -> list[Held]:
    """Return the prediction of every latency from those with another `key`, the prior scales fitted to these alone."""
    held: list[Held] = []
    for out, rest in _folds(latencies, key):
        model, known = fit(rest, fit_prior_scales(rest)), [run_of(latency) for latency in rest]
        held += [_hold(latency, model, find_evidence(run_of(latency), known)) for latency in out]
    return held


def leave_all_but_one_out(latencies: Sequence[PublishedLatency]) -> list[Held]:
    """Return how well one measurement in a setting predicts another network in it: every pair, in both directions."""
    held: list[Held] = []
    for out, rest in _folds(latencies, by_setting):
        if len({latency.model for latency in out}) < 2:
            continue
        prior_scales, known = fit_prior_scales(rest), [run_of(latency) for latency in rest]
        for measured in out:
            latencies_ms = [latency.ms for latency in (*rest, measured)]
            model = fit_runs([*known, _own(measured)], latencies_ms, prior_scales)
            others = [latency for latency in out if latency.model != measured.model]
            held += [_hold(latency, model, "measured", own=True) for latency in others]
    return held


def validate(latencies: Sequence[PublishedLatency]) -> dict[Evidence, list[Held]]:
    """Return the predictions of all left-out latencies by the way in which they were left out."""
    held: dict[Evidence, list[Held]] = {"measured": leave_all_but_one_out(latencies)}
    return held | {evidence: leave_out(latencies, key) for evidence, key in SCHEMES.items()}


def targets(held: Sequence[Held], evidence: Evidence) -> list[Held]:
    """Return the left-out latencies of networks like ours that were predicted on this evidence."""
    if evidence == "network":
        return list(held)
    return [row for row in held if row.evidence == evidence and row.arch in TARGETS]


def quantile(scores: Sequence[float]) -> float:
    """Return how many standard deviations an interval must reach (split conformal prediction, Vovk et al. 2005)."""
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * COVERAGE)
    return ordered[min(rank, len(ordered)) - 1]


def coverage(rows: Sequence[Held]) -> float:
    """Return the fraction of latencies inside their intervals; each interval comes from the other boards' latencies."""
    boards: dict[Hashable, list[float]] = defaultdict(list)
    for row in rows:
        boards[row.latency.processor].append(row.score)
    inside = 0
    for board, scores in boards.items():
        others = [score for name, found in boards.items() if name != board for score in found]
        inside += sum(score <= quantile(others) for score in scores) if others else 0
    return inside / len(rows)


def median_error(rows: Sequence[Held]) -> float:
    """Return the median of the relative errors."""
    return float(np.median([row.error for row in rows]))


def _own(latency: PublishedLatency) -> Run:
    return replace(run_of(latency), own=True)


def _hold(latency: PublishedLatency, model: Fit, evidence: Evidence, own: bool = False) -> Held:
    mean, sd = model.predict(_own(latency) if own else run_of(latency))
    return Held(latency, evidence, math.exp(mean), sd)


def _folds(
    latencies: Sequence[PublishedLatency], key: Callable[[PublishedLatency], Hashable]
) -> Iterable[tuple[list[PublishedLatency], list[PublishedLatency]]]:
    keys = [key(latency) for latency in latencies]
    for left in dict.fromkeys(keys):
        pairs = list(zip(latencies, keys, strict=True))
        yield [latency for latency, k in pairs if k == left], [latency for latency, k in pairs if k != left]


@functools.cache
def left_out() -> tuple[tuple[str, ProfileLatency], ...]:
    """Return (board, latency) of what is published and cannot be learnt from; `Latency.left_out` says why."""
    return tuple((profile.name, row) for profile in load_profiles() for row in profile.latencies if row.left_out)


def digest(latencies: Iterable[PublishedLatency]) -> str:
    """Return the sha256 of all that a fit to these latencies depends on."""
    values = [(f.model, f.processor, f.engine, f.precision, f.cores, f.ms, f.ghz) for f in latencies]
    table = read_table("processors")
    # No latencies of NPUs are known, so none changes a fit.
    families = {name: family for name, family in table["families"].items() if family["kind"] != "npu"}
    processors = {name: each for name, each in table["processors"].items() if each["family"] in families}
    known = table | {"families": families, "processors": processors}
    return hashlib.sha256(repr((values, known)).encode()).hexdigest()


def find_likelihood(design: Design, prior_scales: Mapping[str, float]) -> float:
    """Return the logarithm of the likelihood, without constants."""
    _, factor, solved = design.solve(prior_scales)
    return float(-0.5 * design.unexplained @ solved - np.log(np.diag(factor)).sum())


def fit_prior_scales(latencies: Sequence[PublishedLatency]) -> dict[str, float]:
    """Return the prior scales under which the latencies are most likely, from `START` on."""
    design = Design([run_of(latency) for latency in latencies], [latency.ms for latency in latencies])
    prior_scales, best = dict(START), find_likelihood(design, START)
    for step in (2.0, 1.4, 1.4, 1.15, 1.15):
        for group in START:
            if group in FIXED:
                continue
            for factor in (step, 1 / step):
                # Continue as long as it helps. The bounds keep a group from vanishing, or from explaining everything.
                while (
                    tried := prior_scales | {group: min(max(prior_scales[group] * factor, LEAST), MOST)}
                ) != prior_scales:
                    if (found := find_likelihood(design, tried)) <= best + 1e-9:
                        break
                    prior_scales, best = tried, found
    return prior_scales
