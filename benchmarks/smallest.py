"""The whole network against the one that `edgecls sweep` recommends: accuracy, time, size and memory of int8 files.

    python benchmarks/smallest.py DATA --name magnetic-tile [--seeds 0 1 2] [--seconds 5] [--out smallest]

For each seed: searches as `edgecls sweep DATA` does, which trains both networks; exports both to TFLite and ONNX;
scores the four files on the test images in their own runtimes; and times them in LiteRT, ONNX Runtime and OpenVINO, in
turns. The sweeps stay in OUT, and a repeated call continues with them. Writes benchmarks/results/smallest-NAME.json,
and the frontier of the first seed as a picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import RESULTS, rows_verdict, session_rows, write_record

from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import find_ratio
from edgecls.benchmark.session import run_benchmark
from edgecls.choose.candidates import load_images
from edgecls.config import ExportConfig
from edgecls.evaluate import score_images
from edgecls.export import gate
from edgecls.export.artifact import export_run
from edgecls.images.dataset import Split
from edgecls.limits import Format
from edgecls.runtime.classifier import load

WAYS: tuple[tuple[str, Format], ...] = (("onnxruntime", "onnx"), ("litert", "tflite"), ("openvino", "onnx"))
FORMATS: tuple[Format, ...] = ("tflite", "onnx")


def search(data: Path, out: Path, seed: int) -> tuple[Path, Path, float]:
    """Return the run folders of the whole and the recommended network, and the seconds of the search.

    The seconds are those of the first call, which a later call finds in `out`.
    """
    seconds_file = out / "seconds.json"
    began = time.monotonic()
    command = [sys.executable, "-m", "edgecls", "sweep", str(data), "--out", str(out), "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if not seconds_file.is_file():
        seconds_file.write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    document = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    default, chosen = (Path(document[name]["run"]) for name in ("default", "recommended"))
    return default, chosen, json.loads(seconds_file.read_text(encoding="utf-8"))


def find_files(run: Path) -> dict[Format, Path]:
    """Return the run's int8 files, whether the gate kept them or not, after exporting those that are missing."""
    folder = run / "export-both"
    if not (folder / "export.json").is_file():
        export_run(run, ExportConfig(precisions=("int8",), formats=FORMATS), out=folder)
    return {kind: next(folder.glob(f"model-int8*.{kind}")) for kind in FORMATS}


def score(run: Path, split: Split) -> dict[Format, NDArray[np.float32]]:
    """Return the scores, float32 (N, C), that the run's files give the images."""
    found = {}
    for kind, file in find_files(run).items():
        with load(file) as classifier:
            found[kind] = score_images(classifier, split.images)
    return found


def compare(data: Path, default: Path, chosen: Path) -> dict[str, Any]:
    """Return the accuracy of both networks in both formats, and what differs."""
    classes = json.loads((chosen / "run.json").read_text(encoding="utf-8"))["classes"]
    splits = [load_images(run, data).split for run in (default, chosen)]
    old, new = (score(run, split) for run, split in zip((default, chosen), splits, strict=True))
    found = {kind: gate.compare(new[kind], old[kind], splits[0].labels, classes, 1) for kind in FORMATS}
    return {
        kind: {
            "default_accuracy": each.accuracy + each.drop,
            "accuracy": each.accuracy,
            "mcnemar_p": each.mcnemar_p,
            "agreement": each.agreement,
            "images": len(splits[0].labels),
        }
        for kind, each in found.items()
    }


def measure(default: Path, chosen: Path, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each engine: both files timed in turns, and how many times faster the recommended one is."""
    rows = []
    for engine, kind in WAYS:
        files = [find_files(run)[kind] for run in (default, chosen)]
        record = run_benchmark([Configuration(str(file), engine) for file in files], Settings(seconds=seconds))
        slow, fast = session_rows(record)
        times = find_ratio(record, 0, 1)
        assert times is not None, "both files are timed in turns"
        rows.append(
            {"engine": engine, "format": kind, "threads": fast["threads"]}
            | {"ratio": times.ratio, "ratio_low": times.low, "ratio_high": times.high}
            | {
                f"{whose}_{key}": row[key]
                for whose, row in (("default", slow), ("recommended", fast))
                for key in ("p50_ms", "bytes", "peak_rss_mb")
            }
            | {key: value for key, value in rows_verdict([slow, fast]).items() if key != "warnings"}
        )
    return rows


def run_seed(data: Path, out: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one seed."""
    default, chosen, search_s = search(data, out / f"seed-{seed}", seed)
    config = json.loads((chosen / "run.json").read_text(encoding="utf-8"))["config"]
    trained_s = json.loads((default / "run.json").read_text(encoding="utf-8"))["seconds"]
    return {
        "seed": seed,
        "image_size": config["image_size"],
        "blocks": config["blocks"],
        "search_s": search_s,
        "default_training_s": trained_s,
        "files": compare(data, default, chosen),
        "engines": measure(default, chosen, seconds),
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first: a row for each seed, and the medians."""
    header = ["seed", "recommended", "test accuracy, default", "recommended (.tflite, .onnx)", "paired test"]
    lines = [[*header, *(f"times as fast in {engine}" for engine, _ in WAYS), "times smaller", "search, s"]]
    for row in record["rows"]:
        network = f"{row['image_size']} px, {row['blocks'] or 'all'} blocks"
        files = [row["files"][kind] for kind in FORMATS]
        lines.append(
            [
                str(row["seed"]),
                network,
                ", ".join(f"{each['default_accuracy'] * 100:.1f}" for each in files),
                ", ".join(f"{each['accuracy'] * 100:.1f}" for each in files),
                ", ".join(f"p = {each['mcnemar_p']:.2f}" for each in files),
                *(_speed(each) for each in row["engines"]),
                f"{row['engines'][0]['default_bytes'] / row['engines'][0]['recommended_bytes']:.1f}",
                f"{row['search_s']:.0f}",
            ]
        )
    if len(record["rows"]) > 1:
        ratios = zip(*([each["ratio"] for each in row["engines"]] for row in record["rows"]), strict=True)
        search_s = f"{median(row['search_s'] for row in record['rows']):.0f}"
        lines.append(["median", "", "", "", "", *(f"{median(each):.2f}" for each in ratios), "", search_s])
    return lines


def _speed(engine: dict[str, Any]) -> str:
    doubt = "" if engine["valid"] else f" (not valid: {', '.join(engine['causes'])})"
    return f"{engine['ratio']:.2f} [{engine['ratio_low']:.2f}, {engine['ratio_high']:.2f}]{doubt}"


def main() -> None:
    """Search, score, time, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each file and engine (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("smallest"), help="folder (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    out = arguments.out / arguments.name
    rows = [run_seed(arguments.data, out, seed, arguments.seconds) for seed in arguments.seeds]
    for line in table({"rows": rows}):
        print("  ".join(line))
    verdict = rows_verdict([engine for row in rows for engine in row["engines"]])
    path = write_record(f"smallest-{arguments.name}", {"rows": rows}, verdict, arguments.results)
    shutil.copyfile(out / f"seed-{arguments.seeds[0]}" / "frontier.png", path.with_suffix(".png"))
    print(path)


if __name__ == "__main__":
    main()
