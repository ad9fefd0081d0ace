"""Benchmarks as tables, in plain text, Markdown and for Rich, with the machine, the versions and the date."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from edgecls.benchmark.compare import SpeedComparison
from edgecls.benchmark.record import Record, Result, find_ratio

if TYPE_CHECKING:
    from rich.table import Table

TEXT_COLUMNS = 2
# Columns that a narrow terminal leaves out, the least needed first.
SPARE = (
    *("file MB", "n", "std", "mean", "load", "first", "peak MB", "per s", "p99", "jitter", "age p50", "95 % interval"),
    *("p90", "age p99", "dropped", "times the\nfastest"),
)
# A border and a blank on both sides of a column.
BORDER = 3


def caption(record: Record) -> str:
    """Return the machine, the versions and the date of a record."""
    machine = record.machine
    name = machine["board"] or machine["cpu"] or machine["arch"]
    name += f" at {machine['host']}" if "host" in machine else ""
    isa = f" ({' '.join(machine['isa'])})" if machine["isa"] else ""
    engines = dict.fromkeys(f"{result.engine} {result.engine_version}" for result in record.results)
    scopes = dict.fromkeys(result.scope for result in record.results)
    what = [f"{name}{isa}", f"{len(machine['allowed_cpus'])} CPUs", f"kernel {machine['kernel']}"]
    what += [f"Python {machine['python']}", *engines, f"edgecls {record.edgecls}", record.created[:10]]
    return f"{', '.join(what)}. Scope: {', '.join(scopes)}."


def header(record: Record) -> list[str]:
    """Return the names of the columns."""
    return list(_cells(record, 0))


def rows(record: Record) -> list[list[str]]:
    """Return one row for each result, in the columns of `header`."""
    return [list(_cells(record, index).values()) for index in range(len(record.results))]


def _cells(record: Record, index: int) -> dict[str, str]:
    """Return the cells of one result by column."""
    result = record.results[index]
    cells = {
        "file": record.file_of(result),
        "engine": result.engine if result.device == "cpu" else f"{result.engine} {result.device}",
        "threads": str(result.threads),
        "p50 ms": format_ms(result.p50_ms),
        "95 % interval": f"{format_ms(result.p50_low_ms)}..{format_ms(result.p50_high_ms)}",
    }
    cells |= {name: format_ms(getattr(result, f"{name}_ms")) for name in ("p90", "p99", "mean", "std")}
    cells["per s"] = f"{result.per_second:.1f}"
    if record.ratios:
        cells["times the fastest"] = _ratio_text(record, index)
    if result.paced is not None:
        cells["dropped"] = f"{result.paced['dropped']} of {result.paced['frames']}"
        for name in ("age p50", "age p99", "jitter"):
            cells[name] = format_ms(result.paced[f"{name.replace(' ', '_')}_ms"])
    return cells | {
        "first": format_ms(result.first_ms),
        "load": format_ms(result.load_ms),
        "peak MB": "" if result.peak_rss_mb is None else f"{result.peak_rss_mb:.0f}",
        "file MB": f"{result.model['bytes'] / 1e6:.1f}",
        "n": str(result.n),
        "valid": "yes" if result.valid else f"no: {', '.join(result.causes)}",
    }


def text_table(record: Record) -> str:
    """Return the table as aligned plain text, with the caption and the warnings below."""
    return "\n".join([align([header(record), *rows(record)]), caption(record), *warning_lines(record)])


def markdown_table(record: Record) -> str:
    """Return the table as Markdown, with the caption and the warnings below."""
    columns = header(record)
    lines = [columns, ["---" if place < TEXT_COLUMNS else "---:" for place in range(len(columns))], *rows(record)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    notes = "\n".join(f"- {line}" for line in warning_lines(record))
    return "\n\n".join(filter(None, (table, caption(record), notes)))


def rich_table(record: Record, width: int, show: Callable[[str], str]) -> Table:
    """Return the table for Rich, which must be installed, for a terminal of this width; `show` escapes cells.

    If not all columns fit, the less important ones are left out and the others shortened: `warning_lines` has the
    reasons, Markdown and JSON have all numbers. Numbers never take two lines.
    """
    from rich.table import Table

    columns = dict(zip(header(record), zip(*rows(record), strict=True), strict=True))
    shown = _fit_columns(columns, width)
    names = [name.replace("\n", " ") for name in shown]
    left_out = [name for name in columns if name not in names]
    note = f"No room for {', '.join(left_out)}. Use --markdown to see them." if left_out else ""
    table = Table(caption=show("\n".join(filter(None, (note, caption(record))))), caption_justify="left")
    for place, name in enumerate(shown):
        justify: Literal["left", "right"] = "left" if place < TEXT_COLUMNS else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "file")
    for cells, result in zip(zip(*shown.values(), strict=True), record.results, strict=True):
        table.add_row(*map(show, cells), style=None if result.valid else "yellow")
    return table


def warning_lines(record: Record, *, names: bool = True) -> list[str]:
    """Return every warning once, with its results if not all have it, and without their `names` if that is False.

    Warnings that differ only in their numbers are one, with the range of each number.
    """
    texts: dict[str, list[str]] = {}
    concerned: dict[str, list[str]] = {}
    for result in record.results:
        for warning in result.warnings:
            kind = _NUMBER.sub("#", warning)
            texts.setdefault(kind, []).append(warning)
            concerned.setdefault(kind, []).append(record.name_of(result))
    return [
        _merge(texts[kind]) + (f" ({'; '.join(found)})" if names and len(found) < len(record.results) else "")
        for kind, found in concerned.items()
    ]


def why_invalid(record: Record) -> str:
    """Return why results are not valid, and what to do about it: each cause once, for all that it disturbed."""
    return " ".join(warning_lines(dataclasses.replace(record, results=list(_only_causes(record))), names=False))


def _only_causes(record: Record) -> Iterator[Result]:
    """Yield the invalid results with those warnings alone that make them so, without the names of their rules."""
    for result in record.results:
        if not result.valid:
            texts = [warning.split(": ", 1) for warning in result.warnings]
            yield dataclasses.replace(result, warnings=[text[-1] for text in texts if text[0] in result.causes])


# The end of a sentence is not part of a number.
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def _merge(texts: Sequence[str]) -> str:
    """Return texts that differ in numbers alone as one: "12 to 31 %"."""
    numbers = iter(zip(*(_NUMBER.findall(text) for text in texts), strict=True))

    def spread(_: re.Match[str]) -> str:
        ordered = sorted(set(next(numbers)), key=lambda text: float(text.replace(",", "")))
        return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"

    return _NUMBER.sub(spread, texts[0])


def comparison_table(comparisons: Sequence[SpeedComparison]) -> str:
    """Return the comparisons as plain text."""
    lines = [["", "old p50 ms", "new p50 ms", "new / old", "95 % interval", ""]]
    for each in comparisons:
        interval = f"{each.low:.3f}..{each.high:.3f}"
        figures = [format_ms(each.old_p50_ms), format_ms(each.new_p50_ms), f"{each.ratio:.3f}", interval]
        lines.append([each.name, *figures, each.verdict])
    return align(lines)


def _fit_columns(columns: dict[str, tuple[str, ...]], width: int) -> dict[str, tuple[str, ...]]:
    """Return all columns if they fit, else shortened ones without the first of `SPARE`, as many as necessary."""

    def needs(columns: dict[str, tuple[str, ...]]) -> int:
        return 1 + sum(BORDER + max(map(len, (*name.split("\n"), *cells))) for name, cells in columns.items())

    if needs(columns) <= width:
        return columns
    # "no: throttled" becomes "no", and "2.00 (1.60..2.50)" becomes "2.00".
    short = {name: tuple(cell.split(":")[0].split(" (")[0] for cell in cells) for name, cells in columns.items()}
    short["file"] = columns["file"]
    short = {name.replace("times the ", "times the\n"): cells for name, cells in short.items()}
    for name in SPARE:
        if needs(short) <= width:
            break
        short.pop(name, None)
    return short


def _ratio_text(record: Record, index: int) -> str:
    """Return how many times slower a result is than the fastest, with its interval."""
    fastest = min(range(len(record.results)), key=lambda each: record.results[each].p50_ms)
    if index == fastest:
        return "1"
    found = find_ratio(record, index, fastest)
    return f"{found.ratio:.2f} ({found.low:.2f}..{found.high:.2f})" if found else ""


def format_ms(value: float, *, estimated: bool = False) -> str:
    """Return milliseconds with as many digits as are known of a measured or an estimated time."""
    if value >= 100 and estimated:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.{2 if estimated else 3}f}"


def align(lines: Sequence[Sequence[str]], left: Collection[int] = range(TEXT_COLUMNS)) -> str:
    """Return lines of cells as plain text, each column as wide as its widest cell; `left` are the columns of words."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<" if column in left else ">" for column in range(len(widths))]
    formats = [f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True)]
    return "\n".join("  ".join(formats).format(*line).rstrip() for line in lines)
