"""The exported files of a run as the report shows them: their latencies, measured and estimated."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from edgecls.benchmark.table import format_ms
from edgecls.boards.profiles import load_profile
from edgecls.errors import EdgeclsError
from edgecls.estimate.estimate import estimate
from edgecls.estimate.graph_operators import read_network
from edgecls.files import read_json
from edgecls.messages.names import safe
from edgecls.model_file.read import read_model_file
from edgecls.report.plots import draw_scores
from edgecls.report.svg import draw_svg
from edgecls.runtime.engines import own_engine

CHOICE_FILE = Path("deploy", "choose.json")
# The board that most people have, for an idea of the latency before anything was measured.
BOARD = "raspberry-pi-4b"


def read_latencies(run: Path) -> dict[str, str]:
    """Return the shortest latency of each file by its sha256, as `edgecls choose` measured it for RUN/deploy.

    Those of other rounds than the last one are "about": computed from their ratio to the recommended one.
    """
    try:
        document = read_json(run / CHOICE_FILE)
        rows = [row for row in document["candidates"] if row["p50_ms"] and row.get("sha256")]
        best = document["recommended"]["p50_ms"]
        found: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: float(row["ratio"])):
            is_final = row["round"] == "long"
            time = format_ms(row["p50_ms"]) if is_final else f"about {format_ms(best * row['ratio'], estimated=True)}"
            doubt = "" if row["valid"] or not is_final else ", disturbed by other processes"
            found.setdefault(row["sha256"], f"{time} ms in {row['engine']}, threads: {row['threads']}{doubt}")
        return found
    # No folder yet, one of an older edgecls, or one that was edited: the report says how to measure.
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def estimate_latency(file: Path) -> str:
    """Return the estimate of a file's latency on `BOARD` with its interval; "" if nothing is known of such files."""
    try:
        network, spec = read_network(file)
        engine = own_engine(read_model_file(file).format)
        found = estimate(network, load_profile(BOARD), spec.precision, engine=engine)
    except EdgeclsError:
        return ""
    p50, low, high = (format_ms(ms, estimated=True) for ms in (found.p50_ms, found.low_ms, found.high_ms))
    return f"{p50} ms ({low} to {high})"


def describe(run: Path, entry: dict[str, Any], latencies: dict[str, str]) -> dict[str, Any]:
    """Return an entry of export.json with `measured` and `estimated` latencies, and `scores` if it has a good class.

    `scores` is the histogram of the good class's score as an <svg> element.
    """
    file = run / "export" / Path(entry["path"]).name
    more = {"measured": latencies.get(entry["sha256"], ""), "estimated": estimate_latency(file), "scores": None}
    # Not in the export.json of an older edgecls.
    inspection = entry.get("inspection")
    if inspection and inspection.get("histogram"):
        more["scores"] = _draw_histogram(file.name, inspection)
    return entry | {"inspection": inspection} | more


def _draw_histogram(name: str, inspection: dict[str, Any]) -> str:
    good, threshold = inspection["good_class"], inspection["threshold"]
    counts = {good: inspection["histogram"]["good"], "defects": inspection["histogram"]["defects"]}
    words = "" if threshold is None else f"from {threshold:.4f} on called {good}"

    def draw(path: Path) -> None:
        draw_scores(counts, path, f"score of {good}", threshold, words)

    what = f"Histograms of the score of {good} for good images and for defects"
    return draw_svg(re.sub(r"\W", "-", name), html.escape(safe(what)), draw)[0]
