"""From a 1920x1080 JPEG file to its label: edgecls against Pillow's convert("L").resize() and the same network.

    python benchmarks/decode.py FILE PHOTOS [--threads 1,2] [--turns 30] [--folder 1000]

FILE is an exported file, PHOTOS a folder of natural photographs. Each is brought to 1920x1080 and saved as JPEG of
quality 90, as cameras do. Both ways take turns in this one process. Then a folder of such files goes through
`Classifier.predict`, one after another, and through `predict_iter`, and the processor time says how many cores worked.
Results go to benchmarks/results/decode.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import time_interleaved
from PIL import Image
from record import RESULTS, Watch, write_record

import edgecls
from edgecls.benchmark.measure import compare_times

SIZE = (1920, 1080)
QUALITY = 90
SUFFIXES = (".jpg", ".jpeg", ".png")


def write_frames(photos: Path, folder: Path) -> list[Path]:
    """Return the photographs as 1920x1080 JPEG files in `folder`."""
    frames = []
    for path in sorted(photos.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            frames.append(folder / f"{path.stem}.jpg")
            with Image.open(path) as image:
                image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(frames[-1], "JPEG", quality=QUALITY)
    if not frames:
        raise SystemExit(f"no {', '.join(SUFFIXES)} in {photos}")
    return frames


def predict_plainly(classifier: edgecls.Classifier, path: Path) -> int:
    """Return the index of the label, the picture read as a short script would."""
    height, width = classifier.spec.height, classifier.spec.width
    with Image.open(path) as image:
        gray = image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return int(classifier.engine.run(np.asarray(gray).reshape(1, height, width, 1)).argmax())


def time_frames(file: Path, frames: list[Path], threads: int, turns: int) -> list[dict[str, Any]]:
    """Return a row for each frame: p50 of both ways in ms, and their ratio with its 95 % interval."""
    classifier = edgecls.load(file, threads=threads)
    actions: dict[str, Callable[[], object]] = {}
    for frame in frames:
        actions[f"plain {frame.stem}"] = lambda frame=frame: predict_plainly(classifier, frame)  # type: ignore[misc]
        actions[f"edgecls {frame.stem}"] = lambda frame=frame: classifier.predict(frame)  # type: ignore[misc]
    ready = np.zeros((classifier.spec.height, classifier.spec.width, 1), np.uint8)
    actions["network"] = lambda: classifier.predict(ready)
    times = time_interleaved(actions, batches=turns)
    rows = []
    for frame in frames:
        plain, ours = times[f"plain {frame.stem}"], times[f"edgecls {frame.stem}"]
        ratio = compare_times(plain, ours)
        p50 = {"plain": plain, "edgecls": ours, "network": times["network"]}
        row = {"file": file.name, "frame": frame.stem, "bytes": frame.stat().st_size, "threads": threads}
        rows.append(row | {"p50_ms": {name: float(np.median(ms)) for name, ms in p50.items()}} | asdict(ratio))
        print(f"{frame.stem:20} {threads} thr  {ratio.ratio:.2f}  [{ratio.low:.2f}, {ratio.high:.2f}]", flush=True)
    return rows


def time_folder(file: Path, frames: list[Path], folder: Path, count: int) -> list[dict[str, Any]]:
    """Return images a second and busy cores of each way through `count` files, the network on one thread."""
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:05}.jpg")
        paths[-1].hardlink_to(frames[number % len(frames)])
    classifier = edgecls.load(file, threads=1)
    ways: dict[str, Callable[[], Iterable[object]]] = {
        "predict": lambda: map(classifier.predict, paths),
        "predict_iter": lambda: classifier.predict_iter(paths),
    }
    rows = []
    for name, start in ways.items():
        began, began_cpu = time.perf_counter(), time.process_time()
        seen = sum(1 for _ in start())
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        if seen != count:
            raise SystemExit(f"{name} gave {seen} predictions for {count} files")
        rows.append(
            {
                "file": file.name,
                "way": name,
                "images": count,
                "per_second": count / seconds,
                "cores": cpu_seconds / seconds,
            }
        )
        print(f"{name:20} {count / seconds:7.1f} images/s on {cpu_seconds / seconds:.2f} cores", flush=True)
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first: one photograph to its label."""
    names = {"plain": "as a short script does", "edgecls": "edgecls", "network": "of it the network"}
    lines = [["photograph", "threads", *names.values(), "short script / edgecls"]]
    for row in record["rows"]:
        if "frame" in row:
            times = [f"{row['p50_ms'][name]:.1f} ms" for name in names]
            ratio = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            lines.append([f"{row['frame']}, {row['bytes'] / 1000:.0f} kB", str(row["threads"]), *times, ratio])
    return lines


def main() -> None:
    """Time everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--threads", default="1,2", help="of the network (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--folder", type=int, default=1000, help="files in the folder (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        frames = write_frames(arguments.photos, Path(temporary))
        watch = Watch()
        threads = [int(number) for number in arguments.threads.split(",")]
        rows = [row for number in threads for row in time_frames(arguments.file, frames, number, arguments.turns)]
        ways = time_folder(arguments.file, frames, Path(temporary), arguments.folder)
    print(write_record("decode", {"rows": rows + ways}, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
