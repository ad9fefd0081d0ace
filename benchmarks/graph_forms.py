"""What the forms of a graph give: a stem on pixels or blocks of 2x2, a heat map, channels left out of int8 files.

    python benchmarks/graph_forms.py RUN [--name magnetic-tile] [--turns 40] [--images 1000] [--forms FORM...]

Every form of a format is timed in turns with the others in this one process, on one real image, one thread. int8 forms
are scored against the float Keras model on held-out images, as they are and as another camera, light or place might
have given them. Results go to benchmarks/results/graph-forms-NAME.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from record import Watch, write_record
from versus_stock import RUNNERS, engines_of, time_all

from edgecls.benchmark.measure import compare_times
from edgecls.config import ExportConfig
from edgecls.export import onnx, tflite
from edgecls.export.calibration import load_samples
from edgecls.export.fuse import fuse
from edgecls.export.heatmap import add_heatmap
from edgecls.export.quantization.perturb_images import perturb
from edgecls.export.quantization.prepare import prepare
from edgecls.messages.numbers import percent
from edgecls.training.run import run_folder

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]

# What the others of a precision are measured against.
FIRST = "blocks"
HEATMAP = "blocks, --heatmap"
# By name: whether the stem reads blocks, and the maximum KL divergence of pruning (0 keeps all channels).
INT8_FORMS = {
    FIRST: (True, 0.0),
    HEATMAP: (True, 0.0),
    "pixels": (False, 0.0),
    f"blocks, --prune {ExportConfig.prune:g}": (True, ExportConfig.prune),
    "blocks, --prune 0.1": (True, 0.1),
}


def build(model: keras.Model, calibration: NDArray[np.uint8], forms: Collection[str]) -> dict[str, bytes]:
    """Return every file of these forms by precision, form and suffix."""
    files = {}
    for form, in_blocks in ((FIRST, True), ("pixels", False)):
        if form not in forms:
            continue
        fused = fuse(model, in_blocks=in_blocks)
        files[f"fp32 {form}.tflite"] = tflite.to_fp32(fused)
        files[f"fp32 {form}.onnx"] = onnx.to_fp32(fused)
    for form, (in_blocks, max_kl) in INT8_FORMS.items():
        if form not in forms:
            continue
        prepared = prepare(fuse(model, in_blocks=in_blocks), calibration, max_kl=max_kl)
        if form == HEATMAP:
            prepared = add_heatmap(prepared, calibration)
        files[f"int8 {form}.tflite"] = tflite.to_int8(prepared, calibration)
        files[f"int8 {form}.onnx"] = onnx.to_int8(prepared, calibration)
    return files


def gains(times: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    """Return the time of the first form over that of each, by engine, with its 95 % interval."""
    rows = []
    for (name, engine), samples in times.items():
        precision, suffix = name.split()[0], name.rsplit(".", 1)[1]
        ratio = compare_times(times[f"{precision} {FIRST}.{suffix}", engine], samples)
        rows.append({"file": name, "engine": engine, "p50_ms": float(np.median(samples))} | asdict(ratio))
    return rows


def agreement(files: dict[str, bytes], model: keras.Model, images: NDArray[np.uint8]) -> dict[str, float]:
    """Return the share of images that each int8 file, in its own runtime, labels as the float model does."""
    wanted = np.asarray(model.predict(images, verbose=0)).argmax(1)
    agreed = {}
    for name, content in files.items():
        if name.startswith("int8"):
            run = RUNNERS[engines_of(name)[0]](content, 2)
            agreed[name] = float(np.mean([run(image[None]).argmax() for image in images] == wanted))
    return agreed


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table of docs/figures.md, its header first."""
    lines = [["file", "engine", "time of `blocks` / its time", "agreement", "agreement, changed images"]]
    agreements = (record["agreement"], record["agreement_changed"])
    for row in record["rows"]:
        form, suffix = row["file"].rsplit(".", 1)
        precision, form = form.split(" ", 1)
        own = row["engine"] == engines_of(row["file"])[0]
        agreed = [percent(each[row["file"]], 2) if own and row["file"] in each else "" for each in agreements]
        ratio = f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if form != FIRST else "1"
        lines.append([f"{precision}.{suffix}: {form}", row["engine"], ratio, *agreed])
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default=None)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--forms", nargs="+", default=tuple(INT8_FORMS), choices=INT8_FORMS, metavar="FORM")
    parser.add_argument("--images", type=int, default=1000, help="that are scored, at most (default: %(default)s)")
    arguments = parser.parse_args()
    run: Path = arguments.run
    samples = load_samples(run_folder.read_record(run), data=None, count=128, seed=0)
    model = run_folder.load_model(run)
    files = build(model, samples.calibration.images, {FIRST, *arguments.forms})
    chosen = np.random.default_rng(0).permutation(len(samples.held_out.labels))[: arguments.images]
    images = samples.held_out.images[chosen]
    watch = Watch()
    times = time_all(files, images[:1], 1, arguments.turns)
    verdict = watch.verdict()
    figures = {
        "rows": gains(times),
        "images": len(images),
        "agreement": agreement(files, model, images),
        "agreement_changed": agreement(files, model, perturb(images)),
    }
    for line in table(figures):
        print("  ".join(line))
    print(write_record(f"graph-forms-{arguments.name or run.name}", figures, verdict))


if __name__ == "__main__":
    main()
