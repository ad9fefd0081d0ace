"""Where the time of a network goes: every operator with the Keras layers that it computes.

ONNX Runtime and OpenVINO are asked for their own figures. LiteRT has none to give in Python: see `profilers.litert`.
What a profile says of itself in `method` belongs beside its numbers.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecls.benchmark.measure import time_calls, warm_up
from edgecls.model_file.read import read_graph, read_model_file
from edgecls.profiling.layers import find_layers
from edgecls.profiling.timed import LEAST_RUNS, Timed, middle_mean
from edgecls.runtime.classifier import load

SECONDS = 5.0
# Engine -> the module of `profilers` that knows it.
PROFILERS = {"litert": "litert", "onnxruntime": "ort", "openvino": "openvino"}


@dataclass(frozen=True)
class OperatorTime:
    """One operator as the engine runs it.

    Attributes:
        name: the Keras layers that it computes, or else what the engine calls it.
        type: of operator, in the engine's words.
        layers: the Keras layers, in the order of the network; none for what the export or the engine added.
        mean_ms: mean time of the middle half of the runs.
        share: of the sum over all operators, 0..1.
    """

    name: str
    type: str
    layers: tuple[str, ...]
    mean_ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Where the time of one file in one engine goes.

    Attributes:
        file: its name.
        engine: a name in `engines.ENGINES`.
        engine_version: of the engine's package.
        threads: of the engine.
        method: how the operators' times came about.
        invoke_ms: of the whole network, without a profiler.
        sum_ms: of all operators.
        operators: in the order they run.
    """

    file: str
    engine: str
    engine_version: str
    threads: int
    method: str
    invoke_ms: float
    sum_ms: float
    operators: tuple[OperatorTime, ...]


def profile_file(
    path: str | os.PathLike[str], engine: str | None = None, threads: int | None = None, seconds: float = SECONDS
) -> Profile:
    """Return where the time of an exported file goes, on the CPU.

    Args:
        path: a file that `edgecls export` wrote.
        engine: a name in `engines.ENGINES`; None takes the first that fits and is installed.
        threads: of the engine; None takes `threads.default_threads()`.
        seconds: for all of it, about.

    Raises:
        EdgeclsError: as `edgecls.load` raises it.
    """
    kind, graph, spec = read_model_file(path)
    part = seconds / 5
    with load(path, engine=engine, threads=threads) as classifier:
        opened = classifier.engine
        image = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 1), np.uint8)
        invoke_ms = _time_whole(lambda: opened.run(image), part)
    module = importlib.import_module(f"edgecls.profiling.{PROFILERS[opened.name]}")
    timed: list[Timed] = module.time_operators(graph, spec, opened.threads, 3 * part)
    sum_ms = sum(each.ms for each in timed)
    layers = find_layers(read_graph(graph, kind), timed)
    operators = tuple(
        OperatorTime(" + ".join(names) or each.name, each.type, names, each.ms, each.ms / sum_ms)
        for each, names in zip(timed, layers, strict=True)
    )
    name = Path(path).name
    return Profile(name, opened.name, opened.version, opened.threads, module.METHOD, invoke_ms, sum_ms, operators)


def profile_table(profile: Profile, most: int | None = None) -> str:
    """Return the operators as plain text, the slowest first, and below how the figures came about.

    Args:
        profile: of a file.
        most: how many operators to show; None shows all.
    """
    slowest = sorted(profile.operators, key=lambda operator: -operator.mean_ms)
    rows = [("ms", "share", "all so far", "operator", "layers")]
    summed = 0.0
    for operator in slowest[:most]:
        summed += operator.share
        shares = (f"{operator.share:.1%}", f"{summed:.1%}")
        rows.append((f"{operator.mean_ms:.4f}", *shares, operator.type, operator.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_pad(row, widths)).rstrip() for row in rows]
    if left := len(slowest[len(rows) - 1 :]):
        lines.append(f"... and {left} faster ones, {1 - summed:.1%} together")
    return "\n".join([*lines, "", profile_caption(profile)])


def profile_caption(profile: Profile) -> str:
    """Return what was measured and how."""
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    whole = f"sum {profile.sum_ms:.3f} ms, the whole network {profile.invoke_ms:.3f} ms"
    what = f"{profile.file} in {profile.engine} {profile.engine_version}, {threads}"
    return f"{what}: {len(profile.operators)} operators, {whole}. Times: {profile.method}."


def _time_whole(action: Callable[[], object], seconds: float) -> float:
    warm_up(action, seconds)
    end = time.perf_counter() + seconds
    times = list(time_calls(action, LEAST_RUNS))
    while time.perf_counter() < end:
        times += list(time_calls(action, LEAST_RUNS))
    return middle_mean(times)


def _pad(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Return the cells, numbers to the right and words to the left."""
    return [
        cell.rjust(width) if place < 3 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
