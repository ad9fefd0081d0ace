"""Whether the pick of `edgecls choose` is as fast as the best that measuring everything at full length finds.

    python benchmarks/choose_vs_exhaustive.py RUN DATA [--name magnetic-tile] [--seconds 5] [--rounds 3]

Chooses once. Then every configuration that may be shipped is measured at full length, all in turns, several rounds of
fresh processes; the median of the rounds' medians counts. Needs memory for a process each. Writes
benchmarks/results/choose-vs-exhaustive-NAME.json. Exits with 1 if the pick is more than 5 % slower than the best.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from record import Watch, write_record

from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.session import run_benchmark
from edgecls.choose.candidates import Candidate
from edgecls.choose.choice import Choice
from edgecls.choose.choose import choose_run
from edgecls.choose.report import text_report
from edgecls.cli.progress import LiveProgress
from edgecls.messages.numbers import percent

MOST_SHARE = 0.05


def measure_all(candidates: list[Candidate], seconds: float, rounds: int) -> list[list[dict[str, Any]]]:
    """Return what each candidate took in each round."""
    configurations = [Configuration(str(each.file), each.engine, each.threads, each.device) for each in candidates]
    found: list[list[dict[str, Any]]] = [[] for _ in candidates]
    for number in range(rounds):
        with LiveProgress() as progress:
            record = run_benchmark(configurations, Settings(seconds=seconds, seed=number), progress=progress)
        for each, result in zip(found, record.results, strict=True):
            each.append({"p50_ms": result.p50_ms, "n": result.n, "valid": result.valid, "causes": result.causes})
    return found


def to_rows(choice: Choice, candidates: list[Candidate], found: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row a candidate, the fastest first; `ratio` is to the fastest."""
    picked = choice.winner.candidate if choice.winner else None
    rows = [
        {
            "file": candidate.file.name,
            "engine": candidate.engine,
            "device": candidate.device,
            "threads": candidate.threads,
            "accuracy": candidate.comparison.accuracy if candidate.comparison else None,
            "p50_ms": median(each["p50_ms"] for each in rounds),
            "picked": candidate is picked,
            "rounds": rounds,
        }
        for candidate, rounds in zip(candidates, found, strict=True)
    ]
    rows.sort(key=lambda row: row["p50_ms"])
    return [row | {"ratio": row["p50_ms"] / rows[0]["p50_ms"]} for row in rows]


def main() -> None:
    """Choose, measure everything, print a line for each, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", default="run")
    parser.add_argument("--seconds", type=float, default=Settings.seconds)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the record")
    arguments = parser.parse_args()
    watch = Watch()
    began = time.perf_counter()
    with LiveProgress() as progress:
        choice = choose_run(arguments.run, arguments.data, seconds=arguments.seconds, progress=progress)
    chosen_s = time.perf_counter() - began
    print(text_report(choice))
    candidates = [each for each in choice.candidates if not each.rejected_because]
    if not candidates:
        sys.exit("nothing may be shipped")
    began = time.perf_counter()
    rows = to_rows(choice, candidates, measure_all(candidates, arguments.seconds, arguments.rounds))
    for row in rows:
        valid = sum(each["valid"] for each in row["rounds"])
        print(
            f"{row['file']:20} {row['engine']:12} threads {row['threads']}  {row['p50_ms']:8.3f} ms  "
            f"{row['ratio']:.3f}  valid {valid}/{arguments.rounds} {'<- picked' if row['picked'] else ''}"
        )
    picked = next(row for row in rows if row["picked"])
    spent = {"choose_s": chosen_s, "exhaustive_s": time.perf_counter() - began, "picked_ratio": picked["ratio"]}
    place = {"results": arguments.out} if arguments.out else {}
    print(write_record(f"choose-vs-exhaustive-{arguments.name}", spent | {"rows": rows}, watch.verdict(), **place))
    good = picked["ratio"] <= 1 + MOST_SHARE
    share = picked["ratio"] - 1
    verdict = f"{'within' if good else 'NOT within'} {percent(MOST_SHARE, 0)}"
    print(f"the pick is {percent(share)} slower than the best: {verdict}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
