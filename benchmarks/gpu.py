"""A run's network on an NVIDIA GPU: CUDA and TensorRT, fp32, fp16 and int8, batches, with and without copies.

    python benchmarks/gpu.py RUN [--devices cuda,tensorrt] [--batches 1,4,16,64] [--turns 20]

RUN is a run folder whose export/ holds model-fp32.onnx; onnxruntime-gpu and onnx must be installed, TensorFlow not.
Without a GPU or a provider it says why and measures what it can; the exit code is 0 all the same.

Exported files take one image; here their graph is given a batch. fp16 computes in 16 bits. int8 is quantized as
TensorRT wants it (symmetric, on random images): for its time alone, its accuracy is not that of an exported int8 file.
"numpy" copies images to the GPU and scores back in each call, "CUDA graph" too but replays a recording (what `--device
cuda` does for one image), "IO binding" finds both there. Each line is measured in a
process of its own, whose GPU memory is what the card has less than before. Writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import gpu_graphs
import numpy as np
from exported import find_file
from interleaved import time_interleaved
from record import RESULTS, Watch, write_record

from edgecls.benchmark.measure import warm_up
from edgecls.benchmark.verdict import CONTENTION
from edgecls.model_file.read import read_bytes, read_model_file
from edgecls.runtime.cuda_graph import CudaGraph
from edgecls.runtime.ort import PROVIDERS

DEVICES = ("cuda", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")
# TensorRT builds its engine on loading, which takes a minute where the card is slow.
LONGEST_S = 300
WARM_UP_S = 5.0
THROTTLES = ("hw_slowdown", "sw_thermal_slowdown")
# Above this the card works for somebody else.
BUSY_PERCENT = 5


def why_not(device: str, available: list[str], gpu: str) -> str:
    """Return why a device cannot be measured, or "".

    Args:
        device: a name in `ort.PROVIDERS`.
        available: providers that onnxruntime was built with.
        gpu: its name; "" if none was found.
    """
    provider = PROVIDERS[device][0]
    if provider not in available:
        return f"onnxruntime has no {provider}, only {', '.join(available)}; pip install 'edgecls[gpu]'"
    if device != "cpu" and not gpu:
        return "nvidia-smi finds no GPU; install NVIDIA's driver, or use a machine that has one"
    return ""


def ask_gpu(*fields: str) -> list[str]:
    """Return what nvidia-smi says of the first GPU; empty if it cannot be asked."""
    if which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return [field.strip() for field in done.stdout.strip().split(",")] if done.returncode == 0 else []


def judge_gpu(busy_percent: str, throttled: list[str]) -> list[str]:
    """Return the causes for which a figure is not valid.

    Args:
        busy_percent: how busy the card was before, as nvidia-smi says it.
        throttled: for each of `THROTTLES` "Active" or not, afterwards.
    """
    causes = [CONTENTION] if busy_percent.isdigit() and int(busy_percent) > BUSY_PERCENT else []
    return causes + (["throttled"] if "Active" in throttled else [])


def measure_one(graph: Path, device: str, batch: int, turns: int) -> dict[str, Any]:
    """Return the figures of one graph: both ways, memory, and on which provider its nodes ran.

    Raises:
        RuntimeError: onnxruntime left out the device's provider.
    """
    import onnxruntime

    before = ask_gpu("memory.used")
    session = gpu_graphs.open_session(graph, device)
    if (got := session.get_providers()[0]) != PROVIDERS[device][0]:
        raise RuntimeError(f"asked for {PROVIDERS[device][0]}, onnxruntime runs {got}: it could not start the first")
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    recorded = (
        gpu_graphs.open_session(graph, device, recorded=True) if device == "cuda" and "int8" not in graph.stem else None
    )
    images = np.random.default_rng(0).integers(0, 256, source.shape, np.uint8)
    place = "cpu" if device == "cpu" else "cuda"
    binding = session.io_binding()
    binding.bind_ortvalue_input(source.name, onnxruntime.OrtValue.ortvalue_from_numpy(images, place, 0))
    binding.bind_output(target.name, place, 0)

    def bound() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    ways: dict[str, Callable[[], object]] = {
        "numpy": lambda: session.run([target.name], {source.name: images}),
        "IO binding": bound,
    }
    if recorded is not None:
        replay = CudaGraph(recorded)
        ways["CUDA graph"] = lambda: replay.run(images)
    for way in ways.values():
        warm_up(way, WARM_UP_S)
    scores = session.run([target.name], {source.name: images})[0]
    bound()
    others = [binding.copy_outputs_to_cpu()[0]] + ([] if recorded is None else replay.run(images))
    differ = max(float(np.abs(other - scores).max()) for other in others)
    times = time_interleaved(ways, batches=turns)
    # onnxruntime keeps what it once took: this is the most it held.
    after = ask_gpu("memory.used")
    p50 = {name: float(np.median(samples)) for name, samples in times.items()}
    return {
        "p50_ms": p50,
        "p90_ms": {name: float(np.percentile(samples, 90)) for name, samples in times.items()},
        "per_second": {name: 1000 * batch / ms for name, ms in p50.items()},
        "ways_differ": differ,
        "peak_gpu_mb": int(after[0]) - int(before[0]) if before and after else None,
        "nodes": gpu_graphs.count_nodes(graph, device, images),
    }


def measure_apart(graph: Path, device: str, batch: int, turns: int) -> dict[str, Any]:
    """Return `measure_one`'s figures from a process of its own, or {"failed": why}."""
    busy = ask_gpu("utilization.gpu")
    command = [sys.executable, __file__, str(graph), "--one", device, "--batches", str(batch), "--turns", str(turns)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done within {LONGEST_S} s", "valid": False, "causes": ["failed"]}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"exit code {done.returncode}: {last}", "valid": False, "causes": ["failed"]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    causes = judge_gpu(busy[0] if busy else "", ask_gpu(*(f"clocks_throttle_reasons.{name}" for name in THROTTLES)))
    return row | {"valid": not causes, "causes": causes}


def measure(run: Path, devices: list[str], batches: list[int], turns: int) -> list[dict[str, Any]]:
    """Return a row for each device, precision and batch."""
    fp32 = read_model_file(read_bytes(find_file(run / "export", "fp32", "onnx"))).graph
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            graph = gpu_graphs.BUILD[precision](fp32)
            for batch in batches:
                path = Path(folder) / f"{precision}-{batch}.onnx"
                path.write_bytes(gpu_graphs.with_batch(graph, batch))
                for device in devices:
                    row = {"device": device, "precision": precision, "batch": batch}
                    rows.append(row | measure_apart(path, device, batch, turns))
                    print("  ".join(_cells(rows[-1])), flush=True)
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    ways = ["numpy, ms", "CUDA graph, ms", "IO binding, ms", "IO binding, images/s"]
    lines = [["provider", "precision", "batch", *ways, "GPU memory", "nodes left to the CPU"]]
    return lines + [_cells(row) for row in record["rows"]]


def _cells(row: dict[str, Any]) -> list[str]:
    start = [row["device"], row["precision"], str(row["batch"])]
    if "failed" in row:
        return [*start, f"failed: {row['failed']}".replace("|", "/"), "", "", "", "", ""]
    ways = ("numpy", "CUDA graph", "IO binding")
    times = [f"{row['p50_ms'][name]:.2f}" if name in row["p50_ms"] else "" for name in ways]
    times[2] += "" if row["valid"] else f" (not valid: {', '.join(row['causes'])})"
    memory = "" if row["peak_gpu_mb"] is None else f"{row['peak_gpu_mb']} MB"
    on_cpu = row["nodes"].get("CPUExecutionProvider", 0)
    return [
        *start,
        *times,
        f"{row['per_second']['IO binding']:.0f}",
        memory,
        f"{on_cpu} of {sum(row['nodes'].values())}",
    ]


def main() -> None:
    """Measure what can be measured, print, write; say why the rest was skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--devices", default=",".join(DEVICES), help="(default: %(default)s); cpu is to try the script")
    parser.add_argument("--batches", default="1,4,16,64", help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=20, help="of 10 calls (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    if arguments.one:
        print(json.dumps(measure_one(arguments.run, arguments.one, batches[0], arguments.turns)))
        return
    gpu = ", driver ".join(ask_gpu("name", "driver_version"))
    reasons = {device: why_not(device, gpu_graphs.providers(), gpu) for device in arguments.devices.split(",")}
    for device, reason in reasons.items():
        if reason:
            print(f"skipped {device}: {reason}")
    if not (devices := [device for device, reason in reasons.items() if not reason]):
        return
    watch = Watch()
    rows = measure(arguments.run, devices, batches, arguments.turns)
    verdict = watch.verdict()
    causes = list(dict.fromkeys([*verdict["causes"], *(cause for row in rows for cause in row["causes"])]))
    figures = {"skipped": {device: reason for device, reason in reasons.items() if reason}, "rows": rows}
    verdict |= {"valid": not causes, "causes": causes}
    print(write_record("gpu", figures, verdict, arguments.results, gpu=gpu or "no GPU"))


if __name__ == "__main__":
    main()
