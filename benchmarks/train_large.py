"""Accuracy, time and memory of edgecls train on a large folder: the backbone frozen, and with its last blocks learning.

    python benchmarks/train_large.py DATA --name fashion-mnist-60000

DATA has train/ and test/. Each command runs in a process of its own, whose peak memory the system tells; both share one
empty cache of features, as two runs of one user would.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import RESULTS, Watch, write_record

COMMANDS = {
    "frozen": "--hidden 512 --dropout 0.4 --augmented-copies 1 --epochs 20 --batch-size 64 --learning-rate 1e-3",
    "unfreeze": "--image-size 128 --epochs 15 --augmented-copies 1 --batch-size 64 --learning-rate 2e-3 --unfreeze 7 "
    "--fine-epochs 6 --fine-learning-rate 3e-4",
}


def run(data: Path, options: str, folder: Path) -> dict[str, Any]:
    """Return what one training run came to, its seconds and its peak memory."""
    out = folder / "run"
    command = [sys.executable, "-m", "edgecls", "train", str(data), "--out", str(out), "--overwrite"]
    began = time.perf_counter()
    subprocess.run([*command, *shlex.split(options)], check=True, env={**os.environ, "XDG_CACHE_HOME": str(folder)})
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        "options": options,
        "test_accuracy": record["metrics"]["test_accuracy"],
        "macro_f1": record["metrics"]["macro_f1"],
        "seconds": round(time.perf_counter() - began, 1),
        # Of the largest child so far, in KiB on Linux.
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "phases": record["phases"],
        "versions": record["versions"],
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    lines = [["options of `edgecls train`", "test accuracy", "macro F1", "minutes", "most memory"]]
    for run in record["runs"].values():
        figures = [f"{run['test_accuracy']:.3f}", f"{run['macro_f1']:.3f}", f"{run['seconds'] / 60:.0f}"]
        lines.append([f"`{run['options']}`", *figures, f"{run['peak_rss_mb'] / 1024:.1f} GB"])
    return lines


def main() -> None:
    """Train, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: run(arguments.data, options, Path(folder)) for name, options in COMMANDS.items()}
    for name, figures in runs.items():
        print(f"{name}: test {figures['test_accuracy']:.4f}, {figures['seconds']:.0f} s, {figures['peak_rss_mb']} MB")
    print(write_record(f"train-large-{arguments.name}", {"runs": runs}, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
