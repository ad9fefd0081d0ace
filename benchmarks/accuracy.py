"""Accuracy on test images by effort, over several seeds: the float model, both int8 files, and the time of training.

    python benchmarks/accuracy.py DATA --name magnetic-tile [--efforts quick normal best] [--seeds 0 1 2 3 4]

DATA has train/ and test/. `edgecls train` splits validation images off train/, differently for each seed, and never
sees test/. The int8 files answer in their own runtimes. The feature cache is new for each run, so that the time is that
of a first training.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from int8_over_folds import run_fold
from record import RESULTS, Watch, write_record
from side_by_side import run_side_by_side

from edgecls.config.choices import EFFORTS

SEEDS = (0, 1, 2, 3, 4)


def measure(data: Path, effort: str, seed: int) -> dict[str, Any]:
    """Return the figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        exported = run_fold(data, run, effort, seed, cache=Path(folder))
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    metrics = record["metrics"]
    return {
        "accuracy": metrics["test_accuracy"],
        "macro_f1": metrics["macro_f1"],
        "seconds": record["seconds"],
        "images": exported["images"],
        "changes": {file["format"]: -file["drop"] for file in exported["files"]},
    }


def pool(effort: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of an effort: means over the seeds, and the lowest and highest accuracy."""
    accuracies = [run["accuracy"] for run in runs]
    return {
        "effort": effort,
        "seeds": len(runs),
        "images": runs[0]["images"],
        "accuracy": float(np.mean(accuracies)),
        "accuracy_low": min(accuracies),
        "accuracy_high": max(accuracies),
        **{name: float(np.mean([run[name] for run in runs])) for name in ("macro_f1", "seconds")},
        "changes": {name: float(np.mean([run["changes"][name] for run in runs])) for name in runs[0]["changes"]},
        "worst_changes": {name: min(run["changes"][name] for run in runs) for name in runs[0]["changes"]},
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    int8 = "change by int8 {}, mean (worst), points"
    lines = [["effort", "seeds", "test accuracy", "macro F1", int8.format(".tflite"), int8.format(".onnx"), "seconds"]]
    for row in record["rows"]:
        spread = f" ({row['accuracy_low'] * 100:.2f} to {row['accuracy_high'] * 100:.2f})" if row["seeds"] > 1 else ""
        changes = [
            f"{row['changes'][name] * 100:+.2f} ({row['worst_changes'][name] * 100:+.2f})"
            for name in ("tflite", "onnx")
        ]
        accuracy = f"{row['accuracy'] * 100:.2f} %{spread}"
        lines.append(
            [row["effort"], str(row["seeds"]), accuracy, f"{row['macro_f1']:.3f}", *changes, f"{row['seconds']:.0f}"]
        )
    return lines


def main() -> None:
    """Train, export, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=list(EFFORTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on its share of the processors")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    watch = Watch()

    def work(call: tuple[str, int]) -> dict[str, Any]:
        effort, seed = call
        run = measure(arguments.data, effort, seed)
        print(f"{effort}, seed {seed}: {run}", flush=True)
        return run

    calls = list(itertools.product(arguments.efforts, arguments.seeds))
    runs = run_side_by_side(work, calls, arguments.jobs)
    rows = [
        pool(effort, [run for run, call in zip(runs, calls, strict=True) if call[0] == effort])
        for effort in arguments.efforts
    ]
    for line in table({"rows": rows}):
        print("  ".join(line))
    print(write_record(f"accuracy-{arguments.name}", {"rows": rows}, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
