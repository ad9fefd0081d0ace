"""Time of each operator in ONNX Runtime, from its own profiler."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgecls.model_file.graph import Node
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.onnx import read_onnx
from edgecls.profiling.timed import LEAST_RUNS, WARM_UP_RUNS, Timed, interquartile_mean
from edgecls.runtime.ort import PROVIDERS

METHOD = "ONNX Runtime's own profiler"
_EVENT = "_kernel_time"
# Scales and zero points that are equal are merged under the name of any one of them.
_MERGED = ("_scale", "_zero_point")
_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def time_operators(graph: bytes, spec: ModelSpec, threads: int, seconds: float) -> list[Timed]:
    """Return the time of each operator, in the order they run."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Suppresses the warning that the optimized graph is for this processor.
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        session = onnxruntime.InferenceSession(graph, options, providers=PROVIDERS["cpu"])
        source = session.get_inputs()[0]
        image = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width))
        feed = {source.name: image.reshape(source.shape).astype(_DTYPES[source.type])}
        end, runs = time.perf_counter() + seconds, 0
        while runs < WARM_UP_RUNS + LEAST_RUNS or time.perf_counter() < end:
            session.run(None, feed)
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        optimized = read_onnx(Path(options.optimized_model_filepath).read_bytes())
    return read_events(events, list(optimized.nodes))


def read_events(events: list[dict[str, Any]], nodes: list[Node]) -> list[Timed]:
    """Return the operators in the events of a profile; `nodes` are those of the optimized graph."""
    micros: dict[str, list[float]] = defaultdict(list)
    types: dict[str, str] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_EVENT):
            name = event["name"].removesuffix(_EVENT)
            micros[name].append(event["dur"])
            types[name] = event["args"]["op_name"]
    named = {node.layer: node for node in nodes if node.layer in micros}
    unnamed = [node for node in nodes if node.layer not in micros]
    found = []
    for name, times in micros.items():
        # A node without a name gets its type and a number, in the order of the graph.
        node = named.get(name) or next((node for node in unnamed if node.op == types[name]), None)
        if node in unnamed:
            unnamed.remove(node)
        shown = node.layer if node else name
        found.append(Timed(shown, types[name], interquartile_mean(times[WARM_UP_RUNS:]) / 1e3, _origins(node)))
    return found


def _origins(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    weights = (tensor.name for tensor in node.inputs if tensor.is_constant and not tensor.name.endswith(_MERGED))
    return (*weights, *(tensor.name for tensor in node.outputs))
