"""Leave published latencies out, predict them from the others, and write how far off the estimator is.

python benchmarks/estimate_errors.py    # some minutes; writes RESULTS and TABLE
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import estimate_validation
from estimate_validation import HEADLINE, Held, fit_spreads

from edgecls.estimate import grounds as estimate_grounds
from edgecls.estimate.figures import digest, left_out, load_figures
from edgecls.estimate.grounds import GROUNDS
from edgecls.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "estimate-errors.json"
TABLE = ROOT / "devices" / "tables" / "estimate.toml"


def summarize(rows: list[Held]) -> dict[str, Any]:
    """Return the figures of a table's row."""
    return {
        "figures": len(rows),
        "boards": len({row.figure.processor for row in rows}),
        "median_error": round(estimate_validation.median_error(rows), 3),
        "coverage": round(estimate_validation.coverage(rows), 3),
        "quantile": round(estimate_validation.quantile([row.score for row in rows]), 3),
    }


def to_json(row: Held) -> dict[str, Any]:
    """Return a left-out figure as it stands in the results."""
    figure = row.figure
    known = {"board": figure.processor, "engine": figure.engine, "precision": figure.precision, "cores": figure.cores}
    found = {"ms": figure.ms, "predicted_ms": round(row.predicted_ms, 3), "error": round(row.error, 3)}
    return known | {"model": figure.model, "grounds": row.grounds} | found | {"score": round(row.score, 3)}


def headline(rows: list[Held]) -> dict[str, Any]:
    """Return the errors over the published figures of MobileNetV2, and of each board."""
    rows = [row for row in rows if row.arch == HEADLINE]
    boards = {
        board: {"figures": len(found), "median_error": round(estimate_validation.median_error(found), 3)}
        for board in sorted({row.figure.processor for row in rows})
        if (found := [row for row in rows if row.figure.processor == board])
    }
    return {"figures": len(rows), "median_error": round(estimate_validation.median_error(rows), 3), "boards": boards}


def main() -> None:
    """Write both files and print the table."""
    figures = load_figures()
    spreads = {group: round(spread, 4) for group, spread in fit_spreads(figures).items()}
    held = estimate_validation.validate(figures)
    tables = {grounds: summarize(estimate_validation.targets(held[grounds], grounds)) for grounds in GROUNDS}
    record = {
        "schema": 1,
        "figures": len(figures),
        "left_out": [{"board": board, "ms": row.ms, "why": row.left_out} for board, row in left_out()],
        "nominal_coverage": estimate_grounds.COVERAGE,
        "grounds": tables,
        "mobilenet_v2": {name: headline(rows) for name, rows in held.items()},
        "predictions": {name: [to_json(row) for row in rows] for name, rows in held.items()},
    }
    # One line a value would make thousands of lines.
    write_atomically(RESULTS, (json.dumps(record) + "\n").encode())
    lines = [
        "# Written by benchmarks/estimate_errors.py; see benchmarks/estimate_validation.py.",
        f'figures_sha256 = "{digest(figures)}"',
    ]
    for title, values in [("spreads", spreads), *((f"grounds.{name}", row) for name, row in tables.items())]:
        lines += ["", f"[{title}]", *(f"{key} = {value}" for key, value in values.items())]
    write_atomically(TABLE, ("\n".join(lines) + "\n").encode())
    for name, row in tables.items():
        print(f"{name:9} {row}")
    for name, rows in held.items():
        print(f"{name:9} MobileNetV2 {headline(rows)}")


if __name__ == "__main__":
    main()
