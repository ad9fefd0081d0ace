"""Images a second from files on disk to labels: `predict` one by one against `predict_iter`, by number of threads.

    python benchmarks/throughput.py RUN IMAGES [--count 200] [--turns 10]

IMAGES is a folder of images, below which they may lie in folders. Exported files take one image at a time, so that a
batch is predicted one by one: what grows with the cores is how many images are decoded while the network works
(`workers`), and how many threads the network has. All ways through the same images take turns in this one process.
Writes benchmarks/results/throughput.json.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from exported import find_file
from numpy.typing import NDArray
from record import RESULTS, Watch, write_record

import edgecls
from edgecls.benchmark.measure import compare_times
from edgecls.benchmark.plan import list_images

KINDS = ("tflite", "onnx")


def make_ways(
    classifiers: dict[int, edgecls.Classifier], paths: list[Path], workers: list[int]
) -> dict[tuple[str, int, int], Callable[[], Iterable[object]]]:
    """Return what goes through all images, by name, threads of the network and threads that decode."""
    ways: dict[tuple[str, int, int], Callable[[], Iterable[object]]] = {}
    for threads, classifier in classifiers.items():
        ways["predict", threads, 1] = lambda classifier=classifier: map(classifier.predict, paths)  # type: ignore[misc]
        for count in workers:
            ways["predict_iter", threads, count] = lambda classifier=classifier, count=count: (  # type: ignore[misc]
                classifier.predict_iter(paths, workers=count)
            )
    return ways


def time_ways(
    ways: dict[tuple[str, int, int], Callable[[], Iterable[object]]], turns: int
) -> dict[tuple[str, int, int], NDArray[np.float64]]:
    """Return the seconds of each turn through all images, float64 (turns, 1); one turn more warms up."""
    random = np.random.default_rng(0)
    seconds = {name: np.empty((turns, 1)) for name in ways}
    names = list(ways)
    for turn in range(-1, turns):
        for place in random.permutation(len(names)):
            began = time.perf_counter()
            deque(ways[names[place]](), maxlen=0)
            if turn >= 0:
                seconds[names[place]][turn] = time.perf_counter() - began
    return seconds


def measure(file: Path, paths: list[Path], threads: list[int], turns: int) -> list[dict[str, Any]]:
    """Return a row for each way through the images with one file."""
    with ExitStack() as stack:
        classifiers = {count: stack.enter_context(edgecls.load(file, threads=count)) for count in threads}
        engine, size = classifiers[threads[0]].engine, classifiers[threads[0]].spec.height
        seconds = time_ways(make_ways(classifiers, paths, threads), turns)
    plain = seconds["predict", threads[0], 1]
    rows = []
    for (name, count, workers), times in seconds.items():
        gain = compare_times(plain, times)
        row: dict[str, Any] = {"file": file.name, "engine": engine.name, "engine_version": engine.version, "way": name}
        row |= {"image_size": size}
        row |= {"threads": count, "workers": workers, "images": len(paths), "turns": turns}
        row |= {"per_second": len(paths) / float(np.median(times))}
        rows.append(row | {"gain": gain.ratio, "gain_low": gain.low, "gain_high": gain.high})
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    lines = [["file", "call", "threads of the network", "threads that decode", "images/s", "times the first"]]
    for row in record["rows"]:
        gain = f"{row['gain']:.2f} [{row['gain_low']:.2f}, {row['gain_high']:.2f}]"
        call = f"`{row['way']}`"
        workers = str(row["workers"]) if row["way"] == "predict_iter" else ""
        lines.append(
            [
                f"{row['file']}, {row['image_size']} px",
                call,
                str(row["threads"]),
                workers,
                f"{row['per_second']:.0f}",
                gain,
            ]
        )
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=200, help="of images in a turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", default=None, help="such as 1,2,4 (default: 1 to all CPUs)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    cpus = range(1, (os.cpu_count() or 1) + 1)
    threads = [int(number) for number in arguments.threads.split(",")] if arguments.threads else [*cpus]
    paths = [*itertools.islice(itertools.cycle(list_images(arguments.images)), arguments.count)]
    watch = Watch()
    files = [find_file(arguments.run / "export", "int8", kind) for kind in KINDS]
    rows = [row for file in files for row in measure(file, paths, threads, arguments.turns)]
    for line in table({"rows": rows}):
        print("  ".join(line))
    print(write_record("throughput", {"rows": rows}, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
