"""A cold process of `edgecls predict FILE IMAGE` against a bare script that does the same.

    python benchmarks/cold_start.py FILE... IMAGE [--turns 6]

The bare script is numpy, Pillow and the file's own interpreter: it opens the image, takes luma, resizes, runs the
network and prints the label. It reads no contract and no labels, checks nothing and imports no click. Processes take
turns; the files are in the disk's cache. Writes benchmarks/results/cold-start.json. Exits with 1 above 1.8 times.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import time_interleaved
from record import Watch, write_record

import edgecls
from edgecls.benchmark.measure import compare_times

ROOT = Path(__file__).resolve().parent.parent
MOST_TIMES = 1.8
READ = """
import sys
import numpy as np
from PIL import Image
file, image, threads, height, width, *labels = sys.argv[1:]
gray = Image.open(image).convert("L").resize((int(width), int(height)), Image.Resampling.BILINEAR)
pixels = np.asarray(gray, np.uint8)[None, :, :, None]
"""
BARE = {
    "litert": READ
    + """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=file, num_threads=int(threads))
interpreter.allocate_tensors()
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.set_tensor(source["index"], pixels)
interpreter.invoke()
scores = interpreter.get_tensor(target["index"])[0]
print(labels[scores.argmax()], scores.max())
""",
    "onnxruntime": READ
    + """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
scores = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
print(labels[scores.argmax()], scores.max())
""",
}


def measure(file: Path, image: Path, turns: int) -> dict[str, Any]:
    """Return the times of both processes and their ratio."""
    with edgecls.load(file) as classifier:
        spec, engine = classifier.spec, classifier.engine
        label = classifier.predict(image).label
    settings = [file, image, engine.threads, spec.height, spec.width, *spec.labels]
    commands = {
        "bare": [sys.executable, "-c", BARE[engine.name], *map(str, settings)],
        "edgecls": [sys.executable, "-m", "edgecls", "predict", str(file), str(image)],
        "python": [sys.executable, "-c", "import numpy, PIL.Image"],
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(name: str) -> str:
        return subprocess.run(commands[name], capture_output=True, text=True, check=True, env=environment).stdout

    # Both must have done the work.
    for name in ("bare", "edgecls"):
        if label is not None and label not in run(name):
            sys.exit(f"{name} printed {run(name)!r}, expected {label}")
    times = time_interleaved({name: functools.partial(run, name) for name in commands}, batches=turns)
    ratio = compare_times(times["edgecls"], times["bare"])
    return {
        "file": file.name,
        "engine": engine.name,
        "engine_version": engine.version,
        "threads": engine.threads,
        "image_bytes": image.stat().st_size,
        "p50_ms": {name: float(np.median(samples)) for name, samples in times.items()},
        "p10_ms": {name: float(np.percentile(samples, 10)) for name, samples in times.items()},
        "p90_ms": {name: float(np.percentile(samples, 90)) for name, samples in times.items()},
        "n": times["bare"].size,
        "ratio": ratio.ratio,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "passed": ratio.ratio <= MOST_TIMES,
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    lines = [["file", "engine", "bare script", "`edgecls predict`", "edgecls / bare"]]
    for row in record["rows"]:
        times = [f"{row['p50_ms'][name]:.0f} ms" for name in ("bare", "edgecls")]
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        lines.append([row["file"], row["engine"], *times, ratio])
    return lines


def main() -> None:
    """Measure one file, print the figures, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("image", type=Path)
    parser.add_argument("--turns", type=int, default=6)
    arguments = parser.parse_args()
    rows, watch = [], Watch()
    for file in arguments.files:
        rows.append(row := measure(file, arguments.image, arguments.turns))
        times = ", ".join(f"{name} {value:.0f} ms" for name, value in row["p50_ms"].items())
        spread = f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        print(f"{row['file']:20} {row['engine']:12} {times}; {row['ratio']:.2f} times {spread}", flush=True)
    print(write_record("cold-start", {"rows": rows}, watch.verdict()))
    sys.exit(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    main()
