"""Accuracy, time and memory of edgecls train on a large folder: the backbone frozen, and with its last blocks learning.

    python benchmarks/train_large.py DATA --name fashion-mnist-60000 --results benchmarks/results

DATA has train/ and test/. Each command runs in a process of its own, whose peak memory the system tells; both share one
empty cache of features, as two runs of one user would.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMANDS = {
    "frozen": "--hidden 512 --dropout 0.4 --views 1 --epochs 20 --batch-size 64 --learning-rate 1e-3",
    "unfreeze": "--image-size 128 --epochs 15 --views 1 --batch-size 64 --learning-rate 2e-3 --unfreeze 7 "
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


def main() -> None:
    """Train, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"script": "train_large.py", "machine": platform.machine(), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        result["runs"] = {name: run(arguments.data, options, Path(folder)) for name, options in COMMANDS.items()}
    for name, figures in result["runs"].items():
        print(f"{name}: test {figures['test_accuracy']:.4f}, {figures['seconds']:.0f} s, {figures['peak_rss_mb']} MB")
    if arguments.results:
        path = arguments.results / f"train-large-{arguments.name}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
