"""Hold our invoke loop against MLPerf's LoadGen in single-stream: do both clocks see the same p50 and p90.

    python benchmarks/versus_loadgen.py FILE... [--threads 1] [--repeats 3] [--blocks 20] [--seconds 1]

FILE are int8 exports, one for LiteRT and one for ONNX Runtime. Both sides call the same engine on the same ready
images, in one process. They take turns in short blocks, the order drawn again each time; a block's p50 and p90 are held
against those of the block beside it, and the median over all pairs counts. All repeats are shown.

LoadGen's clock also holds what a Python callback costs, which is measured with a callback that answers at once, and so
does ours for an empty call. Writes benchmarks/results/versus-loadgen.json. Exits with 1 if a p50 or p90 is more than
3 % from LoadGen's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import Watch, write_record

import edgecls
from edgecls.benchmark.loadgen import answer_with, drive, time_ours
from edgecls.benchmark.measure import time_calls, warm_up
from edgecls.boards.versions import tool_versions

MOST_OFF = 0.03
IMAGES = 16
WARM_UP_S = 5.0
EMPTY_S, EMPTY_CALLS = 0.2, 1000


def measure(answer: Callable[[int], object], blocks: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return the medians over blocks of both sides' p50 and p90 in ms, and of their ratios, ours to LoadGen's."""
    random = np.random.default_rng(seed)
    call_ms = warm_up(lambda: answer(0), WARM_UP_S).call_ms
    found: dict[str, list[tuple[float, float]]] = {"loadgen": [], "ours": []}
    valid = 0
    for _ in range(blocks):
        for side in random.permutation(list(found)):
            if side == "ours":
                p50, p90 = np.percentile(time_ours(answer, IMAGES, seconds), (50, 90))
            else:
                figures = drive(answer, IMAGES, "single-stream", seconds, call_ms)
                valid += figures.valid
                p50, p90 = figures.p50_ms or np.nan, figures.p90_ms or np.nan
            found[side].append((float(p50), float(p90)))
    loadgen, ours = (np.array(found[side]) for side in ("loadgen", "ours"))
    row: dict[str, Any] = {"blocks": blocks, "block_s": seconds, "loadgen_valid_blocks": valid}
    for place, name in enumerate(("p50", "p90")):
        row[f"loadgen_{name}_ms"] = float(np.median(loadgen[:, place]))
        row[f"ours_{name}_ms"] = float(np.median(ours[:, place]))
        row[f"{name}_ratio"] = float(np.median(ours[:, place] / loadgen[:, place]))
        row[f"{name}_ratios"] = (ours[:, place] / loadgen[:, place]).round(4).tolist()
    row["passed"] = all(abs(row[f"{name}_ratio"] - 1) <= MOST_OFF for name in ("p50", "p90"))
    return row


def empty_costs() -> dict[str, float]:
    """Return what both clocks show for an answer that takes no time, median in microseconds."""
    figures = drive(lambda index: None, IMAGES, "single-stream", EMPTY_S, 1e-3)
    ours = float(np.median(time_calls(lambda: None, EMPTY_CALLS)))
    return {"loadgen_empty_us": (figures.p50_ms or np.nan) * 1e3, "ours_empty_us": ours * 1e3}


def main() -> None:
    """Measure all files as often as asked, print a line for each repeat, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    rows, watch = [], Watch()
    for file in arguments.files:
        with edgecls.load(file, threads=arguments.threads) as classifier:
            shape = (IMAGES, classifier.spec.height, classifier.spec.width, 1)
            images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            answer, engine = answer_with(classifier.engine.run, images), classifier.engine
            about: dict[str, Any] = {"file": file.name, "engine": engine.name, "engine_version": engine.version}
            about |= {"threads": engine.threads, "loadgen": tool_versions("mlcommons-loadgen")["mlcommons-loadgen"]}
            for repeat in range(arguments.repeats):
                row = measure(answer, arguments.blocks, arguments.seconds, repeat)
                rows.append({**about, "repeat": repeat, **row, **empty_costs()})
                print_row(rows[-1])
    print(write_record("versus-loadgen", {"rows": rows}, watch.verdict()))
    sys.exit(not all(row["passed"] for row in rows))


def print_row(row: dict[str, Any]) -> None:
    """Print one repeat as a line."""
    times = ", ".join(
        f"{name} {row[f'ours_{name}_ms']:.3f} / {row[f'loadgen_{name}_ms']:.3f} ms = {row[f'{name}_ratio']:.4f}"
        for name in ("p50", "p90")
    )
    print(
        f"{row['file']:18} {row['engine']:12} repeat {row['repeat']}: ours / LoadGen: {times}; empty call "
        f"{row['ours_empty_us']:.2f} / {row['loadgen_empty_us']:.2f} us; {'passed' if row['passed'] else 'TOO FAR'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
