"""What the measuring loop itself adds to a 2 ms inference: a stand-in engine spins for a known time, without sleeping.

    python benchmarks/loop_cost.py [--ms 2] [--calls 200] [--turns 30]

The stand-in notes its own beginning and end at each call. What a sample has more is the loop's: two looks at the clock,
the call, the choice of the next image. A turn's wall time beyond its samples is what the loop takes between them; it
lengthens the benchmark, not the samples. Writes benchmarks/results/loop-cost.json. Exits with 1 at 0.5 % or more.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import Watch, write_record

from edgecls.benchmark.measure import BATCH_DROPPED, time_calls
from edgecls.benchmark.worker import make_action
from edgecls.messages.numbers import percent

MOST_SHARE = 0.005


class SpinningEngine:
    """Takes `ms` a call and notes how long it really took."""

    def __init__(self, ms: float) -> None:
        self.took_ms: list[float] = []
        self._ns = int(ms * 1e6)

    def run(self, _: NDArray[np.uint8]) -> None:
        """Spin."""
        began = now = time.perf_counter_ns()
        while now - began < self._ns:
            now = time.perf_counter_ns()
        self.took_ms.append((now - began) / 1e6)


def measure(ms: float, calls: int, turns: int) -> dict[str, Any]:
    """Return the figures: medians over calls of what a sample has more, and over turns of the whole loop."""
    engine = SpinningEngine(ms)
    classifier = SimpleNamespace(engine=engine, spec=SimpleNamespace(height=224, width=224))
    action = make_action(classifier, "invoke", [])  # type: ignore[arg-type]
    added, between = [], []
    gc.disable()
    for _ in range(turns):
        engine.took_ms.clear()
        began = time.perf_counter_ns()
        samples = time_calls(action, calls)
        wall = (time.perf_counter_ns() - began) / 1e6
        added.append((samples - engine.took_ms)[BATCH_DROPPED:])
        between.append((wall - sum(engine.took_ms)) / calls)
    gc.enable()
    median = float(np.median(added))
    return {
        "ms": ms,
        "calls": calls * turns,
        "added_us_p50": 1000 * median,
        "added_us_p99": 1000 * float(np.percentile(added, 99)),
        "added_share": median / ms,
        "whole_loop_share": float(np.median(between)) / ms,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ms", type=float, default=2.0)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--turns", type=int, default=30)
    arguments = parser.parse_args()
    watch = Watch()
    row = measure(arguments.ms, arguments.calls, arguments.turns)
    print(f"added to a sample: {row['added_us_p50']:.2f} us p50, {row['added_us_p99']:.2f} us p99 of {row['ms']} ms")
    print(f"{percent(row['added_share'], 4)} of each sample, {percent(row['whole_loop_share'], 4)} of the whole loop")
    print(write_record("loop-cost", {"rows": [row]}, watch.verdict()))
    if max(row["added_share"], row["whole_loop_share"]) >= MOST_SHARE:
        sys.exit(f"the loop costs {percent(MOST_SHARE)} or more")


if __name__ == "__main__":
    main()
