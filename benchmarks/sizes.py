"""What image size and width cost: file sizes and p50 of int8 and fp32 in every installed engine.

    python benchmarks/sizes.py [--sizes 96,160,224] [--alphas 0.35,1.0,1.4] [--seconds 0.5]

The networks are MobileNetV2 as `edgecls train` builds it, with random weights: no others are at hand for every alpha,
and the time of a network does not depend on what its weights are. They are fused and converted as `edgecls export`
does, calibrated on random images, and scored on nothing: this table says nothing of accuracy. One thread. Writes
benchmarks/results/sizes.json.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, rows_verdict, session_rows, write_record

from edgecls.benchmark.plan import Settings, plan
from edgecls.benchmark.session import run_benchmark
from edgecls.boards.targets import find_target
from edgecls.config import TrainConfig
from edgecls.export import onnx, tflite
from edgecls.export.export_folder import model_name
from edgecls.export.fuse import fuse
from edgecls.images.decode import LUMA, RESAMPLE
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.write import attach_spec
from edgecls.output_capture import quietly
from edgecls.runtime.engines import ENGINES, is_installed

CLASSES = 6
# Ranges of activations need no more: nothing is scored.
CALIBRATION_IMAGES = 4


def build_files(size: int, alpha: float, folder: Path) -> list[Path]:
    """Return the exported files of a network with random weights."""
    from edgecls.networks.model import build_mobilenet_v2
    from edgecls.networks.weights import find_weights

    config = TrainConfig(image_size=size, alpha=alpha, weights="none")
    model = build_mobilenet_v2(config, CLASSES, find_weights("none", size, alpha))
    fused, in_blocks = fuse(model), fuse(model, in_blocks=True)
    images = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, size, size, 1), np.uint8)
    target = find_target(None, ("tflite", "onnx"))
    graphs = {
        ("int8", "tflite"): tflite.to_int8(in_blocks, images, target),
        ("int8", "onnx"): onnx.to_int8(in_blocks, images, target),
        ("fp32", "tflite"): tflite.to_fp32(fused),
        ("fp32", "onnx"): onnx.to_fp32(fused),
    }
    paths = []
    for (precision, kind), graph in graphs.items():
        paths.append(folder / model_name(precision, kind))
        spec = make_spec(size, precision, round(fused.pad_gray) if precision == "int8" else 0)
        paths[-1].write_bytes(attach_spec(graph, spec, "tflite" if kind == "tflite" else "onnx"))
    return paths


def make_spec(size: int, precision: str, zero_point: int) -> ModelSpec:
    """Return a contract without which no file can be loaded."""
    return ModelSpec(
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        height=size,
        width=size,
        resample=RESAMPLE,
        luma=LUMA,
        precision=precision,
        input_dtype="uint8",
        input_scale=1.0,
        input_zero_point=zero_point,
        arch="mobilenet_v2",
        weights={"source": "random", "sha256": None},
        metrics={},
        train_sha256=hashlib.sha256(b"nothing").hexdigest(),
        calibration_sha256=None,
        versions={},
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first: a network a line, an engine and precision a column."""
    rows = record["rows"]
    columns = list(dict.fromkeys((row["precision"], row["engine"], Path(row["file"]).suffix) for row in rows))
    header = ["image size", "alpha", "int8 .tflite", "fp32 .tflite"]
    lines = [header + [f"{precision} {suffix} {engine}, ms" for precision, engine, suffix in columns]]
    for size, alpha in dict.fromkeys((row["image_size"], row["alpha"]) for row in rows):
        cells = {
            (row["precision"], row["engine"], Path(row["file"]).suffix): row
            for row in rows
            if (row["image_size"], row["alpha"]) == (size, alpha)
        }
        megabytes = (cells[precision, "litert", ".tflite"]["bytes"] / 1e6 for precision in ("int8", "fp32"))
        times = [f"{cells[key]['p50_ms']:.2f}{'' if cells[key]['valid'] else ' (not valid)'}" for key in columns]
        lines.append([str(size), f"{alpha:g}", *(f"{each:.1f} MB" for each in megabytes), *times])
    return lines


def measure(size: int, alpha: float, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each file and engine of one network."""
    engines = [engine for engine in ENGINES if is_installed(engine)]
    with tempfile.TemporaryDirectory() as folder:
        with quietly("conversion"):
            files = build_files(size, alpha, Path(folder))
        # OpenVINO runs both kinds of file, as fast: one is enough here, and halves the wait.
        ways = [way for way in plan(files, engines, [1]) if way.engine != "openvino" or way.file.endswith("onnx")]
        record = run_benchmark(ways, Settings(seconds=seconds))
    return session_rows(record, alpha=alpha)


def main() -> None:
    """Build, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="96,160,224", help="(default: %(default)s)")
    parser.add_argument("--alphas", default="0.35,1.0,1.4", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each, at least (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    rows = []
    for size in map(int, arguments.sizes.split(",")):
        for alpha in map(float, arguments.alphas.split(",")):
            found = measure(size, alpha, arguments.seconds)
            rows += found
            times = ", ".join(f"{row['file']} {row['engine']} {row['p50_ms']:.2f}" for row in found)
            print(f"{size} px, alpha {alpha:g}: {times} ms", flush=True)
    print(write_record("sizes", {"rows": rows}, rows_verdict(rows), arguments.results))


if __name__ == "__main__":
    main()
