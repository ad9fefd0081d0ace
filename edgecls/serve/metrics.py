"""Counters of the server as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

# Upper ends of the bins of a latency, in seconds.
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STAGES = ("decode", "network", "whole")


class Metrics:
    """Thread-safe counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self._requests: Counter[int] = Counter()
        self._labels: Counter[str] = Counter()
        self._bins = {stage: [0] * (len(BUCKETS) + 1) for stage in STAGES}
        self._sums = dict.fromkeys(STAGES, 0.0)
        self._unreadable = 0

    def count_request(self, status: int) -> None:
        """Count an answer by its status."""
        with self._lock:
            self._requests[status] += 1

    def count_unreadable(self) -> None:
        """Count an image that could not be read."""
        with self._lock:
            self._unreadable += 1

    def count_prediction(self, label: str | None, latency_ms: dict[str, float]) -> None:
        """Count a prediction by its label (None: rejected), and its latency by stage."""
        with self._lock:
            self._labels[label or ""] += 1
            for stage in STAGES:
                seconds = latency_ms[stage] / 1000
                self._bins[stage][sum(seconds > end for end in BUCKETS)] += 1
                self._sums[stage] += seconds

    def to_text(self, in_work: int) -> str:
        """Return all counters; `in_work` is the number of requests at this moment."""
        with self._lock:
            lines = ["# TYPE edgecls_requests_total counter"]
            lines += [f'edgecls_requests_total{{status="{code}"}} {n}' for code, n in sorted(self._requests.items())]
            lines += ["# TYPE edgecls_predictions_total counter"]
            lines += [f'edgecls_predictions_total{{label="{_escape(x)}"}} {n}' for x, n in sorted(self._labels.items())]
            lines += ["# TYPE edgecls_unreadable_images_total counter"]
            lines += [f"edgecls_unreadable_images_total {self._unreadable}"]
            lines += ["# TYPE edgecls_requests_in_work gauge", f"edgecls_requests_in_work {in_work}"]
            lines += ["# TYPE edgecls_latency_seconds histogram"]
            for stage in STAGES:
                lines += self._histogram(stage)
        lines += ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self._started:.3f}"]
        if memory := resident_bytes():
            lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {memory}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, stage: str) -> list[str]:
        lines, total = [], 0
        for end, count in zip((*BUCKETS, "+Inf"), self._bins[stage], strict=True):
            total += count
            lines.append(f'edgecls_latency_seconds_bucket{{stage="{stage}",le="{end}"}} {total}')
        lines.append(f'edgecls_latency_seconds_sum{{stage="{stage}"}} {self._sums[stage]:.6f}')
        lines.append(f'edgecls_latency_seconds_count{{stage="{stage}"}} {total}')
        return lines


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def resident_bytes() -> int:
    """Return the memory that this process holds in RAM; 0 where the system does not say (not Linux)."""
    if sys.platform == "win32":
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
