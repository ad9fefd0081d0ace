"""Whether a service that runs for long stays as it was: `predict_iter` over a folder, threads that share a classifier.

    python benchmarks/soak.py FILE IMAGES [--loop both] [--minutes 60] [--rate 20] [--threads 4]

Both loops are paced, `--rate` images a second in all, so that latency is that of single images and not of a full queue.
`iter` classifies the folder again and again, one `predict_iter` a pass, from paths; `service` has threads that call
`predict` on encoded bytes as a web service would. Every 50th image is damaged, because errors may leak too. Each minute
gives the p50 of its latencies, the resident memory, and the open file descriptors and threads. Of four quarters the
last is held against the first: medians, and as their spread the range of the minutes. Writes
benchmarks/results/soak.json. Exits with 1 if memory, descriptors or threads grew, or an answer changed.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from record import RESULTS, Watch, write_record

import edgecls
from edgecls.errors import DataError
from edgecls.images.find import find_images

LOOPS = ("iter", "service")
DAMAGED = b"\x89PNG\r\n\x1a\n damaged"
DAMAGED_EVERY = 50
# The allocator's arenas; a leak of 100 bytes an image would be 7 MB in an hour at 20 images a second.
MOST_GROWTH_MB = 4.0
# Open images come and go: the fewest of so many looks are those that stay.
LOOKS, LOOK_PAUSE_S = 50, 0.02


class Log:
    """Latencies since the last look, and the answers that were not the first ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms: list[float] = []
        self._answers: dict[Path, float] = {}
        self.images = self.refused = self.changed = 0

    def add(self, ms: float, path: Path, score: float) -> None:
        """Note a latency and an answer."""
        with self._lock:
            self._ms.append(ms)
            self.images += 1
            self.changed += self._answers.setdefault(path, score) != score

    def refuse(self) -> None:
        """Note that a damaged image was refused."""
        with self._lock:
            self.refused += 1

    def take(self) -> list[float]:
        """Return the latencies since the last call."""
        with self._lock:
            taken, self._ms = self._ms, []
        return taken


def paced(rate: float, end: float) -> Iterator[int]:
    """Yield 0, 1, 2 ... `rate` times a second until time.monotonic() is `end`; what is late is not made up for."""
    due = time.monotonic()
    for number in itertools.count():
        due = max(due + 1 / rate, time.monotonic())
        if due >= end:
            return
        time.sleep(max(due - time.monotonic(), 0))
        yield number


def run_iter(classifier: edgecls.Classifier, images: list[Path], rate: float, end: float, log: Log) -> None:
    """Classify the folder until `end`; a latency is from the moment a path is due until its answer is there."""
    ticks = paced(rate, end)
    while time.monotonic() + 1 / rate < end:
        given: dict[int, float] = {}
        sources: list[Path | bytes] = [DAMAGED if i % DAMAGED_EVERY == 49 else path for i, path in enumerate(images)]

        def give(sources: list[Path | bytes] = sources, given: dict[int, float] = given) -> Iterator[Path | bytes]:
            for i, (source, _) in enumerate(zip(sources, ticks, strict=False)):
                given[i] = time.perf_counter()
                yield source

        for i, (source, answer) in enumerate(classifier.predict_iter(give())):
            if isinstance(answer, DataError):
                log.refuse()
            else:
                assert isinstance(source, Path)
                log.add(1000 * (time.perf_counter() - given[i]), source, answer.score)


def run_service(
    classifier: edgecls.Classifier, images: list[tuple[Path, bytes]], rate: float, end: float, log: Log
) -> None:
    """Classify encoded images in this thread until `end`."""
    for number in paced(rate, end):
        path, data = images[number % len(images)]
        began = time.perf_counter()
        try:
            score = classifier.predict(DAMAGED if number % DAMAGED_EVERY == 49 else data).score
        except DataError:
            log.refuse()
        else:
            log.add(1000 * (time.perf_counter() - began), path, score)


def start(
    arguments: argparse.Namespace, classifier: edgecls.Classifier, end: float
) -> tuple[dict[str, Log], list[Future[None]]]:
    """Return the log of each loop, and the threads in which they have begun."""
    images = list(find_images(arguments.images))[: arguments.most]
    asked = LOOPS if arguments.loop == "both" else (arguments.loop,)
    rate = arguments.rate / len(asked)
    logs = {name: Log() for name in asked}
    jobs: list[tuple[Any, ...]] = []
    if "iter" in logs:
        jobs.append((run_iter, classifier, images, rate, end, logs["iter"]))
    if "service" in logs:
        read = [(path, path.read_bytes()) for path in images]
        job = (run_service, classifier, read, rate / arguments.threads, end, logs["service"])
        jobs += [job] * arguments.threads
    pool = ThreadPoolExecutor(len(jobs))
    return logs, [pool.submit(*job) for job in jobs]


def look(logs: dict[str, Log], minute: int) -> dict[str, Any]:
    """Return the figures of the minute that has passed."""
    gc.collect()
    row: dict[str, Any] = {"minute": minute}
    for name, log in logs.items():
        taken = log.take()
        row[f"{name}_p50_ms"] = round(statistics.median(taken), 3) if taken else None
        row[f"{name}_p99_ms"] = round(sorted(taken)[int(0.99 * len(taken))], 3) if taken else None
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    row["rss_mb"] = round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2)
    fds, threads = [], []
    for _ in range(LOOKS):
        fds.append(len(list(Path("/proc/self/fd").iterdir())))
        threads.append(len(list(Path("/proc/self/task").iterdir())))
        time.sleep(LOOK_PAUSE_S)
    return row | {"fds": min(fds), "threads": min(threads), "load_average": round(os.getloadavg()[0], 2)}


def compare_quarters(rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the medians of a figure in the first and the last quarter of the minutes, and their ranges."""
    quarter = max(len(rows) // 4, 1)
    first, last = ([row[key] for row in part if row[key] is not None] for part in (rows[:quarter], rows[-quarter:]))
    before, after = statistics.median(first), statistics.median(last)
    return {
        "figure": key,
        "first": before,
        "first_range": [min(first), max(first)],
        "last": after,
        "last_range": [min(last), max(last)],
        "growth": round(after - before, 3),
    }


def conclude(logs: dict[str, Log], rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the summary and what is wrong."""
    keys = [f"{name}_p50_ms" for name in logs] + ["rss_mb", "fds", "threads"]
    compared = {key: compare_quarters(rows, key) for key in keys}
    counts = {
        name: {"images": log.images, "refused": log.refused, "changed": log.changed} for name, log in logs.items()
    }
    wrong = [f"{name}: {log.changed} answers changed" for name, log in logs.items() if log.changed]
    if compared["rss_mb"]["growth"] > MOST_GROWTH_MB:
        wrong.append(f"memory grew by {compared['rss_mb']['growth']} MB")
    for key in ("fds", "threads"):
        # What stays is in every minute; more in some of them is work under way.
        (before, _), (after, _) = compared[key]["first_range"], compared[key]["last_range"]
        wrong += [f"{key} grew from {before} to {after}"] if after > before else []
    return {"counts": counts, "compared": list(compared.values()), "wrong": wrong}, wrong


def print_row(row: dict[str, Any]) -> None:
    """Print one minute."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def main() -> None:
    """Run, print each minute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--loop", choices=[*LOOPS, "both"], default="both")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second in all")
    parser.add_argument("--threads", type=int, default=4, help="of the service loop")
    parser.add_argument("--most", type=int, default=300, help="images taken from the folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    watch = Watch()
    classifier = edgecls.load(arguments.file, threads=1)
    classifier.warmup()
    began = time.monotonic()
    # One minute more than is recorded: in the first one caches and arenas fill.
    logs, running = start(arguments, classifier, began + 60 * (arguments.minutes + 1))
    rows = []
    for minute in range(arguments.minutes + 1):
        # Early, because the look itself takes a second.
        time.sleep(max(began + 60 * (minute + 1) - 2 - time.monotonic(), 0))
        for loop in running:
            if loop.done():
                loop.result()
        row = look(logs, minute)
        print_row(row)
        rows += [row] if minute else []
    summary, wrong = conclude(logs, rows)
    for each in summary["compared"]:
        ranges = "first {first} {first_range}  last {last} {last_range}  growth {growth}".format(**each)
        print(f"{each['figure']:16} {ranges}")
    print(summary["counts"])
    figures = {"file": arguments.file.name, "loop": arguments.loop, **summary, "rows": rows}
    print(write_record("soak", figures, watch.verdict(), arguments.results))
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
