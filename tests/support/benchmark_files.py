"""Results, records and states of a quiet machine, a tiny model file, and a worker with given answers."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.benchmark.machine_state import State
from edgecls.benchmark.measure import summarize
from edgecls.benchmark.record import Record, Result
from edgecls.model_file.write import attach_spec

MODEL = {
    "format": "tflite",
    "bytes": 2_800_000,
    "sha256": "a" * 64,
    "arch": "mobilenet_v2",
    "precision": "int8",
    "height": 224,
    "width": 224,
    "classes": 6,
    "accuracy": 0.93,
}
MACHINE = {
    "arch": "aarch64",
    "cpu": "",
    "board": "Raspberry Pi 4 Model B Rev 1.4",
    "isa": ["neon"],
    "python": "3.11.2",
    "kernel": "6.6.20",
    "allowed_cpus": [0, 1, 2, 3],
    "quota_cpus": None,
    "memory_limit_mb": None,
    "frequency_driver": "cpufreq-dt",
}


def make_times(median: float = 2.0, noise: float = 0.01, batches: int = 30, seed: int = 0) -> NDArray[np.float64]:
    """Return times in ms, float64 (batches, 10), whose batches differ by `noise` and whose calls by as much."""
    random = np.random.default_rng(seed)
    times: NDArray[np.float64] = median * random.normal(1, noise, (batches, 1)) * random.normal(1, noise, (batches, 10))
    return times


@functools.cache
def usual_summary() -> dict[str, Any]:
    # Its bootstrap takes a twentieth of a second, too long for every example of a property.
    return asdict(summarize(make_times()))


def make_result(times: NDArray[np.float64] | None = None, **changes: Any) -> Result:
    summary = usual_summary() if times is None else asdict(summarize(times))
    times = make_times() if times is None else times
    values: dict[str, Any] = {
        "file": "run/export/model-int8.tflite",
        "model": MODEL,
        "asked": {"engine": None, "threads": 1, "device": "cpu"},
        "engine": "litert",
        "engine_version": "2.3.0",
        "device": "cpu",
        "threads": 1,
        "cpus": [0],
        "scope": "invoke",
        "fps": None,
        **summary,
        "load_ms": 30.0,
        "first_ms": 12.0,
        "base_rss_mb": 30.1,
        "peak_rss_mb": 65.2,
        "warm_up": {"calls": 40, "steady": True, "call_ms": 2.0},
        "paced": None,
        "calls_per_batch": times.shape[1],
        "samples_ms": times.ravel().tolist(),
        "observed": {"wall_s": 5.0, "own_s": 4.98, "busy_s": 5.0, "steal_s": 0.0, "waited_s": 0.0},
        "mhz": [1500.0] * len(times),
        "valid": True,
        "causes": [],
        "warnings": [],
    }
    return Result(**(values | changes))


def make_state(**changes: Any) -> State:
    cpus = [f"cpu{cpu}" for cpu in range(4)]
    values: dict[str, Any] = {
        "at_s": 1.0,
        "governors": dict.fromkeys(cpus, "performance"),
        "mhz": dict.fromkeys(cpus, 1500.0),
        "max_mhz": dict.fromkeys(cpus, 1500.0),
        "celsius": {"cpu-thermal": 55.0},
        "hot": [],
        "cooling": [],
        "throttle_count": None,
        "firmware": 0,
        "group_throttled_s": None,
        "load": 1.0,
        "on_battery": None,
    }
    return State(**(values | changes))


def make_record(*results: Result, ratios: Sequence[dict[str, Any]] = (), **changes: Any) -> Record:
    values: dict[str, Any] = {
        "created": "2025-05-01T12:00:00+00:00",
        "edgecls": "0.1.0",
        "settings": {"scope": "invoke", "seconds": 5.0, "fps": None, "seed": 0},
        "machine": MACHINE,
        "states": [asdict(make_state()), asdict(make_state(at_s=9.0))],
        "results": list(results) or [make_result()],
        "ratios": list(ratios),
    }
    return Record(**(values | changes))


def write_model(path: Path) -> Path:
    """Return the path of an ONNX file whose scores are the first three pixels, made without TensorFlow."""
    from onnx import TensorProto, helper

    ints = {"starts": [0], "ends": [3], "axes": [1]}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["scores"]),
        ],
        "first three pixels",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, HEIGHT, WIDTH, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in ints.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(attach_spec(model.SerializeToString(), make_spec(), "onnx"))
    return path


OPENED = {
    "model": MODEL,
    "engine": "litert",
    "engine_version": "2.3.0",
    "device": "cpu",
    "threads": 1,
    "cpus": [0],
    "load_ms": 30.0,
    "first_ms": 12.0,
    "base_rss_mb": 30.0,
    "peak_rss_mb": 60.0,
    "wall_s": 0.05,
    "own_s": 0.05,
    "busy_s": 0.05,
    "steal_s": 0.0,
    "waited_s": 0.0,
    "mhz": 1500.0,
}
BATCH = {
    "wall_s": 0.5,
    "own_s": 0.5,
    "busy_s": 0.5,
    "steal_s": 0.0,
    "waited_s": 0.0,
    "mhz": 1500.0,
    "peak_rss_mb": 61.0,
}
FAKE = """
import json, sys
answers = json.loads(sys.argv[1])
log = open(sys.argv[2], "a") if len(sys.argv) > 2 else None
states = list(answers["state"])
for line in sys.stdin:
    request = json.loads(line)
    if log:
        print(line.strip(), file=log, flush=True)
    command = request["do"]
    reply = answers[command]
    if command == "state":
        reply = states.pop(0) if len(states) > 1 else states[0]
    elif command == "open" and request["file"] in reply:
        reply = reply[request["file"]]
    elif command == "batch":
        reply = reply | {"ms": [reply["call_ms"] + i * 1e-3 for i in range(request["calls"])]}
    print(json.dumps(reply), flush=True)
"""


def fake_command(log: Path | None = None, **answers: Any) -> tuple[str, ...]:
    """Return the command of a worker that gives these answers, else those of a quiet machine.

    Args:
        log: where it writes what it is asked.
        answers: command -> reply; "state" -> the states one after the other; "open" may be by file.
    """
    usual: dict[str, Any] = {
        "describe": MACHINE,
        "state": [asdict(make_state())],
        "open": OPENED,
        "warm_up": {"calls": 40, "steady": True, "call_ms": 10.0},
        "batch": BATCH | {"call_ms": 10.0},
        "pace": BATCH | {"ms": [10.0] * 150, "paced": PACED},
    }
    return (sys.executable, "-S", "-c", FAKE, json.dumps(usual | answers), *([str(log)] if log else []))


PACED = {"fps": 30.0, "frames": 152, "dropped": 2, "age_p50_ms": 11.0, "age_p99_ms": 14.0, "jitter_ms": 0.5}
