"""How often two runs of the very same file are called different, over many repeats.

    python benchmarks/false_alarms.py FILE [--repeats 50] [--seconds 2] [--threads 1]

Each repeat measures FILE twice, in two processes that take turns. Three alarms are counted: the two of one repeat are
called different; a repeat is called different from the one before, as --compare would; and, for the worth of the
tolerance, intervals of the first kind leave out 1. Repeats that the verdict calls not valid are counted apart: the
command refuses to compare them. Writes benchmarks/results/false-alarms.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from record import rows_verdict, write_record

from edgecls.benchmark.compare import SpeedComparison, compare_records, find_verdict
from edgecls.benchmark.plan import Settings, plan
from edgecls.benchmark.record import Record
from edgecls.benchmark.session import run_benchmark


def measure(file: Path, threads: int, seconds: float, seed: int) -> Record:
    """Return a record with two results of the same file."""
    (configuration,) = plan([file], threads=[threads])
    return run_benchmark([configuration, configuration], Settings(seconds=seconds, seed=seed))


def first_only(record: Record) -> Record:
    """Return the record with its first result alone: two of one name could not be told apart."""
    return replace(record, results=record.results[:1], ratios=[])


def is_valid(record: Record) -> bool:
    """Return True if all results of a record are valid."""
    return all(result.valid for result in record.results)


def count(pairs: list[dict[str, Any]], later: list[SpeedComparison]) -> dict[str, Any]:
    """Return how often each kind of alarm was raised, and how far the ratios spread."""
    ratios = [pair["ratio"] for pair in pairs]
    return {
        "pairs": len(pairs),
        "pairs_called_different": sum(find_verdict(pair["low"], pair["high"]) != "no different" for pair in pairs),
        "intervals_without_1": sum(not pair["low"] <= 1 <= pair["high"] for pair in pairs),
        "pair_ratios_p5_p95": [float(value) for value in np.percentile(ratios, (5, 95))] if ratios else None,
        "runs_compared": len(later),
        "runs_called_different": sum(each.verdict != "no different" for each in later),
        "run_ratios": [round(each.ratio, 4) for each in later],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    records = []
    for repeat in range(arguments.repeats):
        records.append(measure(arguments.file, arguments.threads, arguments.seconds, repeat))
        first, second = (result.p50_ms for result in records[-1].results)
        causes = {cause for result in records[-1].results for cause in result.causes}
        print(f"{repeat + 1:3}: {first:.3f} {second:.3f} ms {', '.join(sorted(causes)) or 'valid'}", flush=True)
    rows = []
    for name, kept in (("valid", [each for each in records if is_valid(each)]), ("all", records)):
        pairs = [ratio for record in kept for ratio in record.ratios]
        later = [compare_records(first_only(a), first_only(b), force=True)[0] for a, b in pairwise(kept)]
        row = {"repeats": name, "file": arguments.file.name, "threads": arguments.threads} | count(pairs, later)
        rows.append(row | {"seconds": arguments.seconds})
        print(f"{name}: {row['pairs_called_different']} of {row['pairs']} pairs called different,", end=" ")
        print(f"{row['runs_called_different']} of {row['runs_compared']} runs, from the one before")
    judged = [{"valid": result.valid, "causes": result.causes} for record in records for result in record.results]
    print(write_record("false-alarms", {"rows": rows}, rows_verdict(judged)))


if __name__ == "__main__":
    main()
