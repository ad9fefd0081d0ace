"""A run's int8 and fp32 files in every installed engine, taking turns: p50, p90 and how far each is from the best.

    python benchmarks/engines.py RUN [--threads 1,2] [--seconds 3]

Measured as `edgecls benchmark` does: each file and engine in a process of its own, with a verdict. Writes
benchmarks/results/engines.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from exported import find_file
from record import RESULTS, rows_verdict, session_rows, write_record

from edgecls.benchmark.plan import Settings, plan
from edgecls.benchmark.session import run_benchmark
from edgecls.runtime.engines import ENGINES, is_installed

PRECISIONS, KINDS = ("int8", "fp32"), ("tflite", "onnx")


def measure(run: Path, threads: list[int], seconds: float) -> list[dict[str, Any]]:
    """Return a row for each file, engine and number of threads."""
    files = [find_file(run / "export", precision, kind) for precision in PRECISIONS for kind in KINDS]
    engines = [engine for engine in ENGINES if is_installed(engine)]
    record = run_benchmark(plan(files, engines, threads), Settings(seconds=seconds))
    return session_rows(record)


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the README's table, its header first, the fastest first."""
    lines = [["file", "engine", "threads", "p50 ms", "p90 ms", "times the best"]]
    for row in sorted(record["rows"], key=lambda row: row["p50_ms"]):
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]" if row["ratio"] != 1 else "1"
        times = [f"{row['p50_ms']:.2f}", f"{row['p90_ms']:.2f}", ratio]
        doubt = "" if row["valid"] else f" (not valid: {', '.join(row['causes'])})"
        lines.append(
            [
                f"{row['file']}, {row['image_size']} px",
                f"{row['engine']} {row['engine_version']}",
                str(row["threads"]),
                *times,
            ]
        )
        lines[-1][-1] += doubt
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", default="1,2", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each, at least (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    threads = [int(number) for number in arguments.threads.split(",")]
    rows = measure(arguments.run, threads, arguments.seconds)
    figures = {"rows": rows}
    for line in table(figures):
        print("  ".join(line))
    print(write_record("engines", figures, rows_verdict(rows), arguments.results))


if __name__ == "__main__":
    main()
