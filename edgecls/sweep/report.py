"""The result of a sweep as a JSON document and as plain text."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgecls import __version__
from edgecls.benchmark.table import align, format_ms
from edgecls.config import TrainConfig
from edgecls.evaluate import SIGNIFICANT_P
from edgecls.messages.numbers import percent
from edgecls.sweep.frontier import SMALL_GAIN, Point, Step, compare_points, is_fast_enough
from edgecls.sweep.grid import name_of
from edgecls.sweep.latency import Latency
from edgecls.sweep.run import ScoredRun
from edgecls.sweep.sweep import Row, Sweep, point_of

SCHEMA = 1
# A smaller probability of an estimate, or of a measurement, says more than is known.
SURE = 0.01
SETTINGS = ("arch", "image_size", "alpha", "blocks", "head", "unfreeze")
COLUMNS = ("network", "accuracy, %", "p50, ms", "MB", "")
# A terminal's width. A wider table leaves out the bytes, and then the intervals of the times; sweep.json has all.
WIDTH = 80


def to_json(found: Sweep) -> dict[str, Any]:
    """Return the document that `sweep --json` prints and sweep.json holds."""
    rows = [_row_json(found, row) for row in found.rows]
    request, deployment = found.request, found.deployment
    chosen = found.recommended
    return {
        "schema": SCHEMA,
        "edgecls": __version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": str(found.data),
        **({"more_data": list(more)} if (more := found.rows[0].candidate.config.more_data) else {}),
        "device": deployment.profile.name if deployment.profile else None,
        "host": deployment.host or None,
        "budget_ms": request.budget_ms,
        "max_size_bytes": request.max_size_bytes,
        "max_drop": request.max_drop,
        "max_loss": request.max_loss,
        "precision": deployment.precision,
        "format": deployment.format,
        "recommended": next((row for row in rows if chosen and row["name"] == chosen.name), None),
        "default": next((row for row in rows if row["name"] == found.default), None),
        "step_up": _step_json(found.slower),
        "step_down": _step_json(found.faster),
        "frontier": [point.name for point in found.frontier],
        "candidates": [*rows, *_scanned_json(found)],
        "notes": notes(found),
    }


def _scanned_json(found: Sweep) -> list[dict[str, Any]]:
    """Return the networks that a search has looked at and not trained."""
    return [
        _candidate_json(each.config) | {"scan_accuracy": each.accuracy, "left_out_because": "not trained"}
        for each in found.scanned
        if not any(row.candidate.is_like(each.config) for row in found.rows)
    ]


def _candidate_json(config: TrainConfig) -> dict[str, Any]:
    return {"name": name_of(config)} | {name: getattr(config, name) for name in SETTINGS}


def _row_json(found: Sweep, row: Row) -> dict[str, Any]:
    config, scored, point = row.candidate.config, row.scored, point_of(row)
    document = _candidate_json(config)
    document["scan_accuracy"] = next(
        (each.accuracy for each in found.scanned if row.candidate.is_like(each.config)), None
    )
    comparison = scored.comparison if scored else None
    for name in ("accuracy", "accuracy_low", "accuracy_high", "drop"):
        document[name] = getattr(comparison, name) if comparison else None
    chosen = found.recommended
    return document | {
        "mcnemar_p": compare_points(point, chosen) if point and chosen else None,
        **_latency_json(row.latency, found.request.budget_ms),
        "run": str(scored.run) if scored else None,
        "file": str(scored.file) if scored and comparison else None,
        "bytes": scored.size_bytes if scored and comparison else None,
        "size_bytes": scored.size_bytes if scored and comparison else None,
        "val_accuracy": scored.val_accuracy if scored else None,
        "images": len(scored.held_out) if scored else None,
        "seconds": scored.seconds if scored else None,
        "on_frontier": point is not None and any(each.name == point.name for each in found.frontier),
        "left_out_because": row.left_out_because or None,
    }


def _latency_json(latency: Latency | None, budget_ms: float | None) -> dict[str, Any]:
    names = ("p50_ms", "low_ms", "high_ms")
    if latency is None:
        return {**dict.fromkeys(names), "latency": None, "interval": None, "above_budget_chance": None}
    rounded = {name: round(getattr(latency, name), 3) for name in names}
    chance = round(latency.chance_above(budget_ms), 4)
    setting = {"latency": latency.source, "interval": latency.coverage, "setting": latency.setting}
    return rounded | setting | {"above_budget_chance": chance}


def _step_json(step: Step | None) -> dict[str, Any] | None:
    if step is None:
        return None
    numbers = {key: value for key, value in asdict(step).items() if key != "point"}
    return {"name": step.point.name, "p50_ms": round(step.point.latency.p50_ms, 3), **numbers}


def notes(found: Sweep) -> list[str]:
    """Return the warnings and remarks on the result."""
    of_latencies = [note for row in found.rows if row.scored and row.latency for note in row.latency.notes]
    lines = [*found.warnings, *dict.fromkeys(of_latencies)]
    scored = [row for row in found.rows if row.scored and row.scored.comparison]
    # A search chooses on other images.
    if found.recommended and found.request.max_loss is None and len(scored) > 1:
        lines.append(
            f"the best of {len(scored)} networks looks a little better than it is, because all were compared on the "
            f"same {len(scored[0].scored.held_out if scored[0].scored else ())} images"
        )
    return lines


def text_report(found: Sweep) -> str:
    """Return the networks as a table, the recommended one, and the next slower and faster ones."""
    rows = [row for row in found.rows if row.scored and row.scored.comparison]
    out = [f"Left out: {row.candidate.name}: {row.left_out_because}" for row in found.rows if row.left_out_because]
    return "\n".join([*_table(found, rows), *out, "", *_conclusion(found)])


def _table(found: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table, at most `WIDTH` wide if the names of the networks allow it."""
    if not rows:
        return []
    full = [COLUMNS, *(_cells(found, row) for row in rows)]
    no_bytes = [(*cells[:3], *cells[4:]) for cells in full]
    short_times = [(*cells[:2], cells[2].split(" (")[0], cells[3]) for cells in no_bytes]
    tables = [align(lines, left={0, len(lines[0]) - 1}) for lines in (full, no_bytes, short_times)]
    table = next((each for each in tables if max(map(len, each.splitlines())) <= WIDTH), tables[-1])
    assert rows[0].scored is not None and rows[0].latency is not None
    of_times = "" if table == tables[-1] else f", {percent(rows[0].latency.coverage, 0)} interval of the time"
    images = f"{len(rows[0].scored.held_out):,} held-out images"
    return [table, f"{images}. In parentheses: 95 % interval of the accuracy{of_times}."]


def _cells(found: Sweep, row: Row) -> list[str]:
    assert row.scored is not None and row.scored.comparison is not None and row.latency is not None
    comparison, latency = row.scored.comparison, row.latency
    standing = found.standing(row)
    is_slow = standing != "out" and not is_fast_enough(latency, found.request.budget_ms)
    words = {"out": "left out", "slower": "default" if row.candidate.name == found.default else ""}
    return [
        row.candidate.name,
        f"{comparison.accuracy * 100:.1f} ({comparison.accuracy_low * 100:.1f}..{comparison.accuracy_high * 100:.1f})",
        f"{_format(latency, latency.p50_ms)} ({_format(latency, latency.low_ms)}..{_format(latency, latency.high_ms)})",
        f"{row.scored.size_bytes / 1e6:.2f}",
        "over budget" if is_slow else words.get(standing, standing),
    ]


def _format(latency: Latency, ms: float) -> str:
    return format_ms(ms, estimated=latency.source == "estimate")


def _conclusion(found: Sweep) -> list[str]:
    deployment, budget = found.deployment, found.request.budget_ms
    where = deployment.profile.name if deployment.profile else "this machine"
    chosen = found.recommended
    if chosen is None:
        limit = f" meets {budget:g} ms on {where}" if budget is not None else " was found"
        return [f"No network that can be shipped{limit}."]
    latency = chosen.latency
    scored = next(row.scored for row in found.rows if row.candidate.name == chosen.name and row.scored)
    word = "expected" if latency.source == "estimate" else "measured"
    source = _SOURCES[latency.source].format(f"on {deployment.host}" if deployment.host else "here")
    lines = [
        f"Recommended: {scored.run}",
        f"  {_accuracy(scored)}; {_format(latency, latency.p50_ms)} ms {word} on {where}.",
        _budget_risk(latency, budget),
        *(_describe_search(found, chosen) if found.scanned else [_why(found)]),
        _describe_step("slower", found.slower, budget),
        _describe_step("faster", found.faster, budget),
        f"Times are {source} of one image, the network alone: {deployment.precision} .{deployment.format} in "
        f"{latency.setting}; {percent(latency.coverage, 0)} intervals.",
    ]
    return [line for line in lines if line]


def _accuracy(scored: ScoredRun) -> str:
    assert scored.comparison is not None
    low, high = scored.comparison.accuracy_low, scored.comparison.accuracy_high
    return f"Accuracy {percent(scored.comparison.accuracy)} (95 % interval {low * 100:.1f} to {percent(high)})"


def _describe_search(found: Sweep, chosen: Point) -> list[str]:
    """Return what the recommended network is compared with: the whole network, and all others that were looked at."""
    sizes = {each.config.image_size for each in found.scanned}
    images, best = len(found.scanned[0].correct), max(each.accuracy for each in found.scanned)
    lines = [
        f"It is one of {len(found.scanned)} networks (image sizes: {len(sizes)}, all depths). Their linear "
        f"classifiers were compared on {images:,} training and validation images; the best labels {percent(best)} "
        "of them correctly."
    ]
    default = next((point_of(row) for row in found.rows if row.candidate.name == found.default), None)
    if default and default.name != chosen.name:
        gain, p = (chosen.accuracy - default.accuracy) * 100, compare_points(chosen, default)
        lines.append(
            f"Against the whole network: {default.latency.p50_ms / chosen.latency.p50_ms:.1f} times as fast, "
            f"{default.size_bytes / chosen.size_bytes:.1f} times smaller, {gain:+.2f} points of accuracy "
            f"({_p(p)}, {'not significant' if p >= SIGNIFICANT_P else 'significant'})."
        )
    return lines


def _budget_risk(latency: Latency, budget_ms: float | None) -> str:
    """Return how sure it is that a network that meets the budget does so, or "" without a budget."""
    if budget_ms is None:
        return ""
    chance = latency.chance_above(budget_ms)
    if chance < SURE:
        return f"  It meets the budget of {budget_ms:g} ms, almost certainly."
    return f"  It may exceed the budget of {budget_ms:g} ms, with a probability of {percent(chance, 0)}."


_SOURCES = {"estimate": "estimates from published latencies, not measurements,", "measured": "medians measured {}"}


def _why(found: Sweep) -> str:
    """Return why a more accurate network is not the recommended one, or ""."""
    chosen = found.recommended
    allowed = [point for point in found.frontier if is_fast_enough(point.latency, found.request.budget_ms)]
    if chosen is None or allowed[-1].name == chosen.name:
        return ""
    best = allowed[-1]
    return (
        f"{best.name} is {(best.accuracy - chosen.accuracy) * 100:.2f} points better on these images "
        f"({_p(compare_points(best, chosen))}). At most {SMALL_GAIN * 100:g} points are not worth a slower network."
    )


def _describe_step(direction: str, step: Step | None, budget_ms: float | None) -> str:
    """Return what the next `direction`, "slower" or "faster", network would change."""
    if step is None:
        return f"No {direction} network of this sweep is worth a look."
    significance = "not significant" if step.mcnemar_p >= SIGNIFICANT_P else "significant"
    latency = step.point.latency
    chance = latency.chance_above(budget_ms)
    risk = f", over the budget with a probability of {percent(chance, 0)}" if chance >= SURE else ""
    if chance > 1 - SURE:
        risk = ", over the budget"
    return (
        f"Next {direction}: {step.point.name}: {step.accuracy_gain * 100:+.2f} points of accuracy "
        f"({_p(step.mcnemar_p)}, {significance}), {_format(latency, latency.p50_ms)} ms ({step.times:.2f} times){risk}."
    )


def _p(value: float) -> str:
    return "p < 0.01" if value < 0.01 else f"p = {value:.2f}"
