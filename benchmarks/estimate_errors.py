"""Leave published latencies out, predict them from the others, and write how far off the estimator is.

python benchmarks/estimate_errors.py    # some minutes; writes RESULTS and TABLE
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import estimate_validation
from estimate_validation import HEADLINE, Held, digest, fit_prior_scales, left_out

from edgecls.estimate.model import COVERAGE, Evidence
from edgecls.estimate.published_latencies import load_latencies
from edgecls.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "estimate-errors.json"
TABLE = ROOT / "devices" / "tables" / "estimate.toml"


def summarize(rows: list[Held]) -> dict[str, Any]:
    """Return the latencies of a table's row."""
    return {
        "latencies": len(rows),
        "boards": len({row.latency.processor for row in rows}),
        "median_error": round(estimate_validation.median_error(rows), 3),
        "coverage": round(estimate_validation.coverage(rows), 3),
        "quantile": round(estimate_validation.quantile([row.score for row in rows]), 3),
    }


def to_json(row: Held) -> dict[str, Any]:
    """Return a left-out latency as it stands in the results."""
    latency = row.latency
    known = {
        "board": latency.processor,
        "engine": latency.engine,
        "precision": latency.precision,
        "cores": latency.cores,
    }
    found = {"ms": latency.ms, "predicted_ms": round(row.predicted_ms, 3), "error": round(row.error, 3)}
    return known | {"model": latency.model, "evidence": row.evidence} | found | {"score": round(row.score, 3)}


def headline(rows: list[Held]) -> dict[str, Any]:
    """Return the errors over the published latencies of MobileNetV2, and of each board."""
    rows = [row for row in rows if row.arch == HEADLINE]
    boards = {
        board: {"latencies": len(found), "median_error": round(estimate_validation.median_error(found), 3)}
        for board in sorted({row.latency.processor for row in rows})
        if (found := [row for row in rows if row.latency.processor == board])
    }
    return {"latencies": len(rows), "median_error": round(estimate_validation.median_error(rows), 3), "boards": boards}


def main() -> None:
    """Write both files and print the table."""
    latencies = load_latencies()
    prior_scales = {group: round(prior_scale, 4) for group, prior_scale in fit_prior_scales(latencies).items()}
    held = estimate_validation.validate(latencies)
    tables = {
        evidence: summarize(estimate_validation.targets(held[evidence], evidence)) for evidence in get_args(Evidence)
    }
    record = {
        "schema": 1,
        "latencies": len(latencies),
        "left_out": [{"board": board, "ms": row.ms, "why": row.left_out} for board, row in left_out()],
        "nominal_coverage": COVERAGE,
        "evidence": tables,
        "mobilenet_v2": {name: headline(rows) for name, rows in held.items()},
        "predictions": {name: [to_json(row) for row in rows] for name, rows in held.items()},
    }
    # One line a value would make thousands of lines.
    write_atomically(RESULTS, (json.dumps(record) + "\n").encode())
    lines = [
        "# Written by benchmarks/estimate_errors.py; see benchmarks/estimate_validation.py.",
        f'latencies_sha256 = "{digest(latencies)}"',
    ]
    for title, values in [("prior_scales", prior_scales), *((f"evidence.{name}", row) for name, row in tables.items())]:
        lines += ["", f"[{title}]", *(f"{key} = {value}" for key, value in values.items())]
    write_atomically(TABLE, ("\n".join(lines) + "\n").encode())
    for name, row in tables.items():
        print(f"{name:9} {row}")
    for name, rows in held.items():
        print(f"{name:9} MobileNetV2 {headline(rows)}")


if __name__ == "__main__":
    main()
