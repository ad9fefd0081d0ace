"""Our exported files against stock exports of the same trained model: accuracy, and time taken in turns.

    python benchmarks/versus_stock.py RUN [--name magnetic-tile] [--turns 40]

RUN is a run folder with its images still in place; its int8 and fp32 exports are made if missing. Every file is scored
on all held-out images in its own runtime; every pair is timed interleaved in this one process, on one real image,
with 1 and 2 threads. Results go to benchmarks/results/versus-stock-NAME.json and .png.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stock
from interleaved import time_interleaved
from numpy.typing import NDArray
from record import RESULTS, Watch, write_record

from edgecls.benchmark.measure import compare_times
from edgecls.boards.targets import find_target
from edgecls.evaluate import score
from edgecls.export.calibration import ExportSamples, load_samples
from edgecls.export.run_files import export_missing, find_files
from edgecls.images.matplotlib_figure import new_figure
from edgecls.messages.numbers import percent
from edgecls.model_file.read import read_bytes, read_model_file
from edgecls.training.run import run_folder

RUNNERS = {"LiteRT": stock.litert_runner, "ONNX Runtime": stock.ort_runner, "OpenVINO": stock.openvino_runner}
PRECISIONS = ("fp32", "int8")
# What is divided by what: (stock file and engine) over (our file and engine).
PAIRS = (
    ("stock int8.tflite", "LiteRT", "edgecls int8.tflite", "LiteRT"),
    ("stock fp32.tflite", "LiteRT", "edgecls fp32.tflite", "LiteRT"),
    ("stock int8.onnx", "ONNX Runtime", "edgecls int8.onnx", "ONNX Runtime"),
    ("stock fp32.onnx", "ONNX Runtime", "edgecls fp32.onnx", "ONNX Runtime"),
    ("nncf int8.onnx", "ONNX Runtime", "edgecls int8.onnx", "ONNX Runtime"),
    ("stock int8.onnx", "OpenVINO", "edgecls int8.onnx", "OpenVINO"),
    ("nncf int8.onnx", "OpenVINO", "edgecls int8.onnx", "OpenVINO"),
    ("stock int8.onnx", "ONNX Runtime", "edgecls int8.onnx", "OpenVINO"),
)


@dataclass(frozen=True)
class Row:
    """One file in one engine: what it scored, and its times by number of threads."""

    file: str
    engine: str
    bytes: int
    accuracy: float
    macro_f1: float
    agreement: float
    p50_ms: dict[int, float]
    p90_ms: dict[int, float]


def build_files(run: Path, samples: ExportSamples) -> dict[str, bytes]:
    """Return every file by name: ours without their contracts, and the stock ones."""
    model = run_folder.load_model(run)
    calibration = samples.calibration.images
    float_onnx = stock.onnx_fp32(model)
    files = {
        "stock fp32.tflite": stock.tflite_fp32(model),
        "stock int8.tflite": stock.tflite_int8(model, calibration),
        "stock fp32.onnx": float_onnx,
        "stock int8.onnx": stock.onnx_int8(float_onnx, calibration),
    }
    if (nncf := stock.nncf_int8(float_onnx, calibration)) is not None:
        files["nncf int8.onnx"] = nncf
    target = find_target(None)
    wanted = [file for file in find_files(run, target, max_drop=1.0) if file.precision in PRECISIONS]
    for file in export_missing(run, wanted, target, max_drop=1.0):
        files[f"edgecls {file.precision}.{file.format}"] = read_model_file(read_bytes(file.path)).graph
    return files


def engines_of(name: str) -> tuple[str, ...]:
    """Return the engines that run a file of this name."""
    return ("LiteRT",) if name.endswith("tflite") else ("ONNX Runtime", "OpenVINO")


def time_all(files: dict[str, bytes], image: NDArray[np.uint8], threads: int, turns: int) -> dict[tuple[str, str], Any]:
    """Return the times in ms of every file in every engine that runs it, taken in turns."""
    actions: dict[str, Callable[[], object]] = {}
    keys = {}
    for name, content in files.items():
        for engine in engines_of(name):
            run = RUNNERS[engine](content, threads)
            actions[f"{name} in {engine}"] = lambda run=run: run(image)  # type: ignore[misc]
            keys[f"{name} in {engine}"] = (name, engine)
    samples = time_interleaved(actions, batches=turns)
    return {keys[action]: times for action, times in samples.items()}


def score_all(
    files: dict[str, bytes], samples: ExportSamples, keras_scores: NDArray[np.float32], classes: list[str]
) -> dict[Any, Any]:
    """Return accuracy, macro F1 and agreement with Keras of every file in every engine, over all held-out images."""
    results = {}
    for name, content in files.items():
        for engine in engines_of(name):
            run = RUNNERS[engine](content, os.cpu_count() or 1)
            scores = np.stack([run(image[None]) for image in samples.held_out.images])
            # Quantized probabilities may pass 1 by a rounding; the order of classes is what counts here.
            result = score(np.clip(scores, 0, 1), samples.held_out.labels, classes)
            agreement = float((scores.argmax(1) == keras_scores.argmax(1)).mean())
            results[name, engine] = {"accuracy": result.accuracy, "macro_f1": result.macro_f1, "agreement": agreement}
            print(f"{name:22} {engine:13} accuracy {result.accuracy:.4f}  agreement {agreement:.4f}", flush=True)
    return results


def ratios_of(times: dict[int, dict[tuple[str, str], Any]]) -> list[dict[str, Any]]:
    """Return stock time over our time for each of `PAIRS`, with its 95 % interval."""
    rows = []
    for threads, table in times.items():
        for slow, slow_engine, fast, fast_engine in PAIRS:
            if (slow, slow_engine) in table:
                ratio = compare_times(table[slow, slow_engine], table[fast, fast_engine])
                pair = f"{slow} in {slow_engine} / {fast} in {fast_engine}"
                rows.append({"pair": pair, "threads": threads} | asdict(ratio))
                print(f"{pair:72} {threads} thr  {ratio.ratio:.2f}  [{ratio.low:.2f}, {ratio.high:.2f}]")
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first: int8 before fp32, engine by engine, one thread."""
    ratios = {each["pair"]: each for each in record["ratios"] if each["threads"] == 1}
    accuracy = f"accuracy (Keras: {percent(record['float_accuracy'])})"
    lines = [["file", "runtime", accuracy, "agreement with Keras", "size", "its time / edgecls' time"]]
    for precision in ("int8", "fp32"):
        rows = [row for row in record["files"] if row["file"].split()[1].startswith(precision)]
        for row in sorted(rows, key=lambda row: list(RUNNERS).index(row["engine"])):
            side, what = row["file"].split()
            ratio = ratios.get(f"{row['file']} in {row['engine']} / edgecls {what} in {row['engine']}")
            times = f"{ratio['ratio']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else ""
            bold = "**" if side == "edgecls" else ""
            figures = [
                f"{bold}{percent(row['accuracy'])}{bold}",
                percent(row["agreement"]),
                f"{row['bytes'] / 1e6:.1f} MB",
            ]
            lines.append([f"{bold}{side}{bold} {what}", row["engine"], *figures, times])
    return lines


def plot(rows: list[Row], path: Path, title: str) -> None:
    """Write a picture of accuracy against p50 latency with one thread."""
    colors = {"stock": "tab:red", "nncf": "tab:orange", "edgecls": "tab:green"}
    markers = {"LiteRT": "o", "ONNX Runtime": "s", "OpenVINO": "^"}
    with new_figure(path, 9, 6, 110) as figure:
        axes = figure.add_subplot()
        for row in rows:
            side, what = row.file.split()
            look: dict[str, Any] = {"marker": markers[row.engine], "edgecolors": colors[side]}
            face = colors[side] if what.startswith("int8") else "none"
            axes.scatter(row.p50_ms[1], row.accuracy * 100, 80, c=face, **look)
        for engine, marker in markers.items():
            axes.scatter([], [], c="gray", marker=marker, label=engine)
        for side in dict.fromkeys(row.file.split()[0] for row in rows):
            axes.plot([], [], color=colors[side], linewidth=6, label=side)
        axes.scatter([], [], edgecolors="gray", c="none", label="fp32 (int8 is filled)")
        axes.set(xlabel="p50 of one prediction, 1 thread, ms", ylabel="accuracy on held-out images, %", title=title)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.legend()


def main() -> None:
    """Run the whole comparison and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default=None)
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    run: Path = arguments.run
    name = arguments.name or run.name
    record = run_folder.read_record(run)
    samples = load_samples(record, data=None, count=128, seed=0)
    keras_scores = run_folder.read_held_out_scores(run, len(samples.held_out.labels), len(record["classes"]))
    files = build_files(run, samples)
    watch = Watch()
    times = {threads: time_all(files, samples.held_out.images[:1], threads, arguments.turns) for threads in (1, 2)}
    verdict = watch.verdict()
    ratios = ratios_of(times)
    scored = score_all(files, samples, keras_scores, record["classes"])
    rows = [
        Row(
            file=key[0],
            engine=key[1],
            bytes=len(files[key[0]]),
            **figures,
            p50_ms={threads: float(np.median(times[threads][key])) for threads in times},
            p90_ms={threads: float(np.percentile(times[threads][key], 90)) for threads in times},
        )
        for key, figures in scored.items()
    ]
    figures = {
        "images": len(samples.held_out.labels),
        "float_accuracy": float((keras_scores.argmax(1) == samples.held_out.labels).mean()),
        "ratios": ratios,
        "files": [asdict(row) for row in rows],
    }
    print(write_record(f"versus-stock-{name}", figures, verdict))
    plot(rows, RESULTS / f"versus-stock-{name}.png", f"{name}, {record['config']['image_size']} px")


if __name__ == "__main__":
    main()
