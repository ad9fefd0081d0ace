"""The time of every operator of a network, with the Keras layers that it computes.

The times come from the profilers of ONNX Runtime and OpenVINO. LiteRT has none for Python: see `profiling.litert`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecls.benchmark.measure import warm_up
from edgecls.benchmark.table import align
from edgecls.messages.lists import counted
from edgecls.messages.numbers import percent
from edgecls.model_file.read import read_graph, read_model_file
from edgecls.profiling.layers import find_layers
from edgecls.profiling.timed import Timed, time_runs
from edgecls.runtime.classifier import load

SECONDS = 5.0
# Engine -> module of `profiling`.
PROFILERS = {"litert": "litert", "onnxruntime": "ort", "openvino": "openvino"}


@dataclass(frozen=True)
class OperatorTime:
    """One operator as the engine runs it."""

    name: str  # the Keras layers that it computes, or else its name in the engine
    type: str  # in the engine
    layers: tuple[str, ...]  # the Keras layers, in the order of the network; empty if the export or the engine added it
    mean_ms: float  # interquartile mean of the runs
    share: float  # fraction of the sum over all operators, 0..1


@dataclass(frozen=True)
class OperatorTimes:
    """The times of the operators of one file in one engine."""

    file: str  # its name
    engine: str  # a name in `engines.ENGINES`
    engine_version: str  # of the engine's package
    threads: int  # of the engine
    method: str  # how the operators were timed
    invoke_ms: float  # time of the whole network, without a profiler
    sum_ms: float  # sum of all operators
    operators: tuple[OperatorTime, ...]  # in the order they run


def profile_file(
    path: str | os.PathLike[str], engine: str | None = None, threads: int | None = None, seconds: float = SECONDS
) -> OperatorTimes:
    """Return the profile of an exported file on the CPU.

    Raises:
        EdgeclsError: as `edgecls.load` raises it.
    """
    kind, graph, spec = read_model_file(path)
    part = seconds / 5
    with load(path, engine=engine, threads=threads) as classifier:
        opened = classifier.engine
        image = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 1), np.uint8)
        warm_up(lambda: opened.run(image), part)
        invoke_ms = time_runs(lambda: opened.run(image), part)
    module = importlib.import_module(f"edgecls.profiling.{PROFILERS[opened.name]}")
    timed: list[Timed] = module.time_operators(graph, spec, opened.threads, 3 * part)
    sum_ms = sum(each.ms for each in timed)
    layers = find_layers(read_graph(graph, kind), timed)
    operators = tuple(
        OperatorTime(" + ".join(names) or each.name, each.type, names, each.ms, each.ms / sum_ms)
        for each, names in zip(timed, layers, strict=True)
    )
    name = Path(path).name
    return OperatorTimes(name, opened.name, opened.version, opened.threads, module.METHOD, invoke_ms, sum_ms, operators)


def profile_table(profile: OperatorTimes, most: int | None = None) -> str:
    """Return the operators as plain text, the slowest first, at most `most` of them, with the caption below."""
    slowest = sorted(profile.operators, key=lambda operator: -operator.mean_ms)
    rows = [("ms", "percent", "sum", "operator", "layers")]
    summed = 0.0
    for operator in slowest[:most]:
        summed += operator.share
        shares = (percent(operator.share), percent(summed))
        rows.append((f"{operator.mean_ms:.4f}", *shares, operator.type, operator.name))
    lines = [align(rows, left=(3, 4))]
    if left := len(slowest[len(rows) - 1 :]):
        lines.append(f"and {left} faster ones, {percent(1 - summed)} together")
    return "\n".join([*lines, "", profile_caption(profile)])


def profile_caption(profile: OperatorTimes) -> str:
    """Return the file, the engine, the totals and the method."""
    threads = counted(profile.threads, "thread")
    whole = f"sum {profile.sum_ms:.3f} ms, the whole network {profile.invoke_ms:.3f} ms"
    what = f"{profile.file} in {profile.engine} {profile.engine_version}, {threads}"
    return f"{what}: {counted(len(profile.operators), 'operator')}, {whole}. Times: {profile.method}."
