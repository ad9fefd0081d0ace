"""Time of each operator in OpenVINO, from its own performance counters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecls.model_file.graph import Node
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import detect_format
from edgecls.model_file.tflite import read_tflite
from edgecls.profiling.timed import WARM_UP_RUNS, Timed, interquartile_mean
from edgecls.runtime.openvino import compile_settings, read_model

METHOD = "OpenVINO's own performance counters"
# Few runs in a block, so that other processes disturb some blocks and not all of them.
BLOCK_RUNS, BLOCKS, LEAST_MODELS = 8, 5, 3
_NO_KERNEL = ("undef", "unknown")
# OpenVINO does not keep TFLite's names. If it runs as many operators of a kind as the file has, they are the same.
_TFLITE_TYPES = {
    "Convolution": ("CONV_2D",),
    "GroupConvolution": ("DEPTHWISE_CONV_2D",),
    "FullyConnected": ("FULLY_CONNECTED",),
    "FullyConnectedQuantizedLegacy": ("FULLY_CONNECTED",),
    "MatMul": ("FULLY_CONNECTED",),
    "Eltwise": ("ADD",),
    "Add": ("ADD",),
    "Pad": ("PAD",),
    "Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "MaxPool": ("MAX_POOL_2D",),
    "AvgPool": ("AVERAGE_POOL_2D", "MEAN"),
    "ReduceMean": ("MEAN",),
    "SpaceToDepth": ("SPACE_TO_DEPTH",),
    "Softmax": ("SOFTMAX",),
}


def time_operators(graph: bytes, spec: ModelSpec, threads: int, seconds: float) -> list[Timed]:
    """Return the time of each operator, in the order they run."""
    import openvino

    settings = compile_settings(threads) | {"PERF_COUNT": True}
    core, kind = openvino.Core(), detect_format(graph)
    model, end = read_model(core, graph, kind), time.perf_counter() + seconds
    rounds: list[list[float]] = []
    while len(rounds) < LEAST_MODELS * BLOCKS or time.perf_counter() < end:
        # Only a new model resets the counters.
        compiled = core.compile_model(model, "CPU", settings)
        operators, times = _count(compiled, spec)
        rounds += times
    # Compiling again changes the numbers in names, but not the order.
    origins = _fused_names(compiled)
    # Rounding can make the time of a very fast operator negative.
    means = [max(0.0, interquartile_mean(times)) for times in zip(*rounds, strict=True)]
    found = [
        Timed(each.node_name, each.node_type, ms, origins.get(each.node_name, ()))
        for each, ms in zip(operators, means, strict=True)
        # Operators of less than a microsecond have the status "not run" too; fused ones have no kernel.
        if not each.exec_type.startswith(_NO_KERNEL)
    ]
    return match_in_order(found, read_tflite(graph).nodes) if kind == "tflite" else found


def _count(compiled: Any, spec: ModelSpec) -> tuple[list[Any], list[list[float]]]:
    """Return all operators, and for each block of runs after the warm-up the time of each in ms.

    A counter is the mean over all runs so far in whole microseconds. The time of one block is therefore off by a few
    microseconds; the next block compensates for it.
    """
    request, source = compiled.create_infer_request(), compiled.inputs[0]
    image = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, spec.channels))
    image = image.reshape(tuple(source.shape)).astype(source.element_type.to_dtype())
    totals: list[list[float]] = []
    operators: list[Any] = []
    for runs in range(1, WARM_UP_RUNS + BLOCKS * BLOCK_RUNS + 1):
        request.infer({0: image})
        if runs >= WARM_UP_RUNS and (runs - WARM_UP_RUNS) % BLOCK_RUNS == 0:
            operators = request.get_profiling_info()
            totals.append([each.real_time.total_seconds() * 1e3 * runs for each in operators])
    return operators, list((np.diff(totals, axis=0) / BLOCK_RUNS).tolist())


def _fused_names(compiled: Any) -> dict[str, tuple[str, ...]]:
    """Return the names in the file of the operators in each operator."""
    found = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        names = operator.get_rt_info()["originalLayersNames"].astype(str).split(",")
        # The sum with the bias has the name of the convolution.
        found[operator.get_friendly_name()] = tuple(name.removesuffix("/WithoutBiases") for name in names)
    return found


def match_in_order(operators: Sequence[Timed], nodes: Sequence[Node]) -> list[Timed]:
    """Return the operators with the names of the TFLite file's, where there are as many of a kind in both."""
    matched = list(operators)
    for kind, types in _TFLITE_TYPES.items():
        places = [place for place, operator in enumerate(operators) if operator.type == kind]
        same = [node for node in nodes if node.op in types]
        if len(places) == len(same):
            for place, node in zip(places, same, strict=True):
                name = node.outputs[0].name
                matched[place] = operators[place]._replace(name=name, origins=(name,))
    return matched
