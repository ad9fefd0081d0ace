"""Points, latencies and whole sweeps that were never run: what the parts of `edgecls sweep` are tested with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgecls.boards.profiles import load_profile
from edgecls.config import TrainConfig
from edgecls.export.gate import compare
from edgecls.sweep.frontier import Point
from edgecls.sweep.grid import Space, list_candidates
from edgecls.sweep.latency import Latency, find_deployment
from edgecls.sweep.run import ScoredRun
from edgecls.sweep.sweep import Row, Sweep, conclude
from edgecls.sweep.trials import Request

IMAGES = 200


def make_latency(p50_ms: float, low_ms: float | None = None, high_ms: float | None = None) -> Latency:
    return Latency(p50_ms, low_ms or p50_ms * 0.8, high_ms or p50_ms * 1.25, "estimate", "litert, threads: 4")


def make_point(name: str, wrong: Iterable[int], p50_ms: float, size_bytes: int = 1) -> Point:
    places = frozenset(wrong)
    return Point(name, 1 - len(places) / IMAGES, places, make_latency(p50_ms), size_bytes)


def make_scored(name: str, wrong: int, problem: str = "") -> ScoredRun:
    labels = np.arange(IMAGES) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    scores = right.copy()
    scores[:wrong] = 1 - scores[:wrong]
    comparison = compare(scores, right, labels, ("a", "b"), 1)
    held_out = tuple(f"{i}.png" for i in range(IMAGES))
    places = frozenset(range(wrong))
    return ScoredRun(
        Path("sweep", name),
        Path("sweep", name, "a.tflite"),
        2_800_000,
        comparison,
        places,
        held_out,
        9,
        0.9,
        30,
        problem,
    )


def make_sweep(space: Space, wrong: list[int], times_ms: list[float], budget_ms: float, out: str = "") -> Sweep:
    """Return what a sweep on a Raspberry Pi would have found; the first candidate is out if `out` says why."""
    profile = load_profile("raspberry-pi-4b")
    rows = [
        Row(each, make_latency(ms), make_scored(each.name, count, problem), problem)
        for each, count, ms, problem in zip(
            list_candidates(space, TrainConfig()), wrong, times_ms, [out, *[""] * (len(wrong) - 1)], strict=True
        )
    ]
    return conclude(Path("photos"), Request(budget_ms, profile), find_deployment(profile), rows)
