"""The lecture's four networks and edgecls' own recipe side by side: accuracy, macro F1, size, latency, training time.

    python benchmarks/lecture_presets.py DATA --name magnetic-tile [--epochs 10] [--seconds 5]

Each is trained as `edgecls train --preset NAME --epochs 10` does, ten being the lecture's, with an empty cache, one
after the other; edgecls' own recipe as it stands. The int8 TFLite files are scored on the held-out images in their own
runtime, then all timed in turns, each in a process of its own, one thread. Writes
benchmarks/results/lecture-presets-NAME.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, Watch, rows_verdict, session_rows, write_record

from edgecls.benchmark.plan import Settings, plan
from edgecls.benchmark.session import run_benchmark
from edgecls.config import ExportConfig
from edgecls.networks.presets import PRESETS, resolve
from edgecls.output_capture import quietly

OWN = "edgecls"
EPOCHS = 10
EXPORT = ExportConfig(precisions=("int8",), formats=("tflite",))


def train_and_export(preset: str, data: Path, epochs: int, run: Path) -> tuple[dict[str, Any], Path]:
    """Return what one recipe came to and its int8 file, kept or rejected; `preset` is "" for edgecls' own."""
    from edgecls.export.artifact import export_run
    from edgecls.report.pictures import PICTURES
    from edgecls.training.train import train

    config = resolve(preset, {"epochs": epochs} if preset else {})
    with tempfile.TemporaryDirectory() as cache:
        # Features of another run would be time saved that a first run does not save.
        os.environ["XDG_CACHE_HOME"] = cache
        record = train(data, run, config, pictures=PICTURES).record
        exported = export_run(run, EXPORT)
    (file,) = exported.files
    scored = record["metrics"]
    row = {
        "preset": preset,
        "image_size": config.image_size,
        "train_seconds": record["seconds"],
        "epochs": sum(phase["epochs"] for phase in record["phases"]),
        "float_accuracy": scored["val_accuracy"] if scored["test_accuracy"] is None else scored["test_accuracy"],
        "float_macro_f1": scored["macro_f1"],
        "int8_accuracy": file.comparison.accuracy,
        "int8_macro_f1": file.macro_f1,
        "int8_passed": file.comparison.passed,
        "bytes": file.bytes,
        "images": exported.images,
    }
    return row, exported.folder / file.path


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the guide's table, its header first."""
    lines = [["", "accuracy, float", "int8", "macro F1, float", "int8", "int8 file", "p50, ms", "training"]]
    for row in record["rows"]:
        name = f"`--preset {row['preset']}`" if row["preset"] else "**edgecls, no preset**"
        rejected = "" if row["int8_passed"] else " (rejected)"
        figures = [row[f"{kind}_{what}"] for what in ("accuracy", "macro_f1") for kind in ("float", "int8")]
        shown = [f"{figure:.3f}" for figure in figures]
        shown[1] += rejected
        doubt = "" if row["valid"] else f" (not valid: {', '.join(row['causes'])})"
        p50 = f"{row['p50_ms']:.2f} [{row['p50_low_ms']:.2f}, {row['p50_high_ms']:.2f}]{doubt}"
        trained = f"{row['train_seconds']:.0f} s, {row['epochs']} epochs"
        lines.append([f"{name}, {row['image_size']} px", *shown, f"{row['bytes'] / 1e6:.1f} MB", p50, trained])
    return lines


def main() -> None:
    """Train, export, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of presets, at most (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each file, at least (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quietly("import of TensorFlow"):
        import tensorflow as tf

        tf.zeros(1)
        tf.get_logger().setLevel("ERROR")
    watch = Watch()
    rows, files = [], []
    with tempfile.TemporaryDirectory() as folder:
        for preset in (*PRESETS, ""):
            row, file = train_and_export(preset, arguments.data, arguments.epochs, Path(folder) / (preset or OWN))
            print(f"{preset or OWN}: {row}", flush=True)
            rows.append(row)
            files.append(file)
        training = watch.verdict()
        ways = plan(files, engines=["litert"], threads=[1])
        timed = session_rows(run_benchmark(ways, Settings(seconds=arguments.seconds)))
    rows = [time | row for row, time in zip(rows, timed, strict=True)]
    for line in table({"rows": rows}):
        print("  ".join(line))
    figures = {"data": arguments.name, "rows": rows, "training": training}
    path = write_record(
        f"lecture-presets-{arguments.name}", figures, rows_verdict([training, *rows]), arguments.results
    )
    print(path)


if __name__ == "__main__":
    main()
