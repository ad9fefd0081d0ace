"""Bulk prediction on a local Ray cluster: two workers against one, one thread each, and memory as images grow.

    python benchmarks/ray_scaling.py FILE IMAGES [--count 4000] [--turns 7] [--memory 5000,50000]

IMAGES is a folder of images; a list names them again and again until there are enough. Each run has a cluster of its
own, warmed up by a shard for each worker and more, and its start is not timed. The two sizes of cluster take turns.
Memory is what a worker has for itself, without Ray's shared object store, the most of any worker at any look.
Writes benchmarks/results/ray-scaling.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, Watch, write_record

from edgecls.benchmark.measure import compare_times
from edgecls.benchmark.plan import list_images
from edgecls.bulk.model import pack_model
from edgecls.bulk.predict import predict_all
from edgecls.parallel.ray import connect

SHARD_IMAGES = 100
WARMUP_SHARDS = 4  # for each worker: which one takes a shard is not ours to say
LOOK_EVERY_S = 0.2
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Workers:
    """Looks at the processes of a cluster that this one started: their memory, and their CPU time when all is done."""

    def __init__(self) -> None:
        self.most_mb = 0.0
        self.cpu_s: dict[int, float] = {}
        self._ended = threading.Event()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look now and then while the block lasts."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._look()
        self._look()

    def _look(self) -> None:
        below = {os.getpid()}
        for pid in sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
            # It may end while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                folder = Path(f"/proc/{pid}")
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) not in below:
                    continue
                below.add(pid)
                self.cpu_s[pid] = (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
                if (folder / "cmdline").read_bytes().startswith(b"ray::"):
                    own = next(line for line in (folder / "status").read_text().splitlines() if "RssAnon" in line)
                    self.most_mb = max(self.most_mb, int(own.split()[1]) / 1024)


def run(file: Path, paths: list[Path], count: int, workers: int, watch: Watch) -> dict[str, float]:
    """Return the seconds that `count` images took, those of the cluster's start, and the most memory of a worker."""
    looked = Workers()
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        lists = {"warm": WARMUP_SHARDS * workers * SHARD_IMAGES, "timed": count}
        for name, images in lists.items():
            chosen = itertools.islice(itertools.cycle(paths), images)
            Path(folder, f"{name}.txt").write_text("".join(f"{path.resolve()}\n" for path in chosen), encoding="utf-8")
        with looked.watched():
            began = time.perf_counter()
            with connect(f"local:{workers}") as pool:
                model = pack_model(file.read_bytes(), pool)
                for name in lists:
                    if name == "timed":
                        ready = time.perf_counter()
                    source, out = str(Path(folder, f"{name}.txt")), Path(folder, name)
                    predict_all(model, [source], out, pool, shard_images=SHARD_IMAGES)
                seconds = time.perf_counter() - ready
    after = os.times()
    # What the system has not told us of as the time of our children: Ray's processes are not waited for by all.
    reported = after.children_user + after.children_system - before.children_user - before.children_system
    watch.add_own(max(0.0, sum(looked.cpu_s.values()) - reported))
    return {"seconds": seconds, "start_s": ready - began, "worker_mb": looked.most_mb}


def measure_speed(file: Path, paths: list[Path], count: int, turns: int, watch: Watch) -> list[dict[str, Any]]:
    """Return a row for one worker and one for two, which take turns."""
    random = np.random.default_rng(0)
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(turns):
        for workers in random.permutation([1, 2]):
            runs[int(workers)].append(run(file, paths, count, int(workers), watch))
            print(f"{workers} workers: {count / runs[int(workers)][-1]['seconds']:.0f} images/s", flush=True)
    seconds = {workers: np.array([[each["seconds"]] for each in found]) for workers, found in runs.items()}
    rows = []
    for workers, found in runs.items():
        gain = compare_times(seconds[1], seconds[workers])
        rows.append(
            {
                "workers": workers,
                "images": count,
                "turns": turns,
                "seconds": [round(each["seconds"], 3) for each in found],
                "per_second": count / float(np.median(seconds[workers])),
                "start_s": float(np.median([each["start_s"] for each in found])),
                "worker_mb": max(each["worker_mb"] for each in found),
                "gain": gain.ratio,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    return rows


def measure_memory(file: Path, paths: list[Path], counts: list[int], watch: Watch) -> list[dict[str, Any]]:
    """Return a row for each number of images, all with two workers."""
    rows = []
    for count in counts:
        found = run(file, paths, count, 2, watch)
        print(f"{count} images: a worker had {found['worker_mb']:.0f} MB at most", flush=True)
        rows.append({"workers": 2, "images": count, "per_second": count / found["seconds"], **found})
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first."""
    lines = [["workers, one thread each", "images", "images/s", "times one worker", "most memory of a worker"]]
    for row in [*record["speed"], *record["memory"]]:
        gain = f"{row['gain']:.2f} [{row['gain_low']:.2f}, {row['gain_high']:.2f}]" if "gain" in row else ""
        memory = f"{row['worker_mb']:.0f} MB"
        lines.append([str(row["workers"]), f"{row['images']:,}", f"{row['per_second']:.0f}", gain, memory])
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=4000, help="of images in a turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--memory", default="5000,50000", help="numbers of images (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    paths = list(list_images(arguments.images))
    watch = Watch()
    speed = measure_speed(arguments.file, paths, arguments.count, arguments.turns, watch)
    counts = [int(count) for count in arguments.memory.split(",")]
    memory = measure_memory(arguments.file, paths, counts, watch)
    figures = {"file": arguments.file.name, "speed": speed, "memory": memory}
    for line in table(figures):
        print("  ".join(line))
    print(write_record("ray-scaling", figures, watch.verdict(), arguments.results))


if __name__ == "__main__":
    main()
