"""How much sooner a training ends with oneDNN's kernels than with TensorFlow's own, on this processor.

    python benchmarks/onednn.py DATA --name magnetic-tile [--effort quick] [--turns 3]

DATA has train/ and test/. `edgecls train` runs with both in turns, and with an empty cache of features.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, Watch, write_record

from edgecls.config.choices import EFFORTS

KERNELS = {"TensorFlow": "0", "oneDNN": "1"}


def train(data: Path, effort: str, seed: int, switch: str) -> dict[str, float]:
    """Return the seconds and the test accuracy of one training."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = ["--out", str(run), "--effort", effort, "--seed", str(seed)]
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "TF_ENABLE_ONEDNN_OPTS": switch}
        command = [sys.executable, "-m", "edgecls", "train", str(data), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {"seconds": record["seconds"], "accuracy": record["metrics"]["test_accuracy"]}


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    lines = [["effort", "TensorFlow's kernels, s", "oneDNN's kernels, s", "times as fast", "test accuracy, both"]]
    runs = record["runs"]
    ratios = [own["seconds"] / faster["seconds"] for own, faster in zip(*runs.values(), strict=True)]
    seconds = [f"{np.median([run['seconds'] for run in each]):.0f}" for each in runs.values()]
    accuracies = [f"{np.mean([run['accuracy'] for run in each]) * 100:.2f} %" for each in runs.values()]
    spread = f"{np.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    return [*lines, [record["effort"], *seconds, spread, ", ".join(accuracies)]]


def main() -> None:
    """Train in turns, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--effort", choices=EFFORTS, default="quick", help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of both, each with its seed (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    watch = Watch()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in KERNELS}
    for seed in range(arguments.turns):
        for name, switch in KERNELS.items():
            runs[name].append(train(arguments.data, arguments.effort, seed, switch))
            print(f"seed {seed}, {name}: {runs[name][-1]}", flush=True)
    figures = {"effort": arguments.effort, "runs": runs}
    for line in table(figures):
        print("  ".join(line))
    print(write_record(f"onednn-{arguments.name}", figures, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
