"""The result of `edgecls choose` as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from edgecls.benchmark.table import align, caption, format_ms
from edgecls.choose.candidates import Candidate, on_device
from edgecls.choose.choice import Choice
from edgecls.choose.rounds import NEAR, TimedCandidate, Timing
from edgecls.export.gate import format_change
from edgecls.messages.numbers import percent

COLUMNS = ("file", "engine", "threads", "p50 ms", "times (95 % interval)", "accuracy", "")
# Of those that only took part in the screening round: their times are of another moment than the finalists'.
SCREENED_COLUMNS = ("file", "engine", "threads", "times", "accuracy", "")
SCREENED = "Left out after the screening round; their times, roughly, as multiples of the recommended one's:"


def text_report(choice: Choice) -> str:
    """Return the choice as plain text."""
    parts = []
    if choice.timing:
        parts.append(_text_table(COLUMNS, table_rows(choice)))
    if screened := screened_rows(choice):
        parts.append(f"\n{SCREENED}\n{_text_table(SCREENED_COLUMNS, screened)}")
    parts += [f"rejected: {line}" for line in rejection_lines(choice)]
    return "\n".join([*parts, "", *_conclusion(choice)])


def _text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, *rows]
    # A column of remarks without a remark is left out.
    kept = lines if any(row[-1] for row in rows) else [line[:-1] for line in lines]
    return align(kept, left={0, 1, len(columns) - 1})


def markdown_report(choice: Choice) -> str:
    """Return the choice as Markdown."""
    rejected = "\n".join(f"- {line}" for line in rejection_lines(choice)) or "- none"
    warnings = [f"**Warning: {warning}**" for warning in choice.notes]
    lines = ["# Recommended configuration", *_conclusion(choice), *warnings]
    tables = ["## Times", _markdown_table(COLUMNS, table_rows(choice))]
    if screened := screened_rows(choice):
        tables += [SCREENED, _markdown_table(SCREENED_COLUMNS, screened)]
    return "\n\n".join([*lines, *tables, "## Rejected", f"{rejected}\n"])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def table_rows(choice: Choice) -> list[list[str]]:
    """Return one row for each finalist, in the order of `COLUMNS`, the fastest first; all are of the last round."""
    timing = choice.timing
    return [_row(timed, timing) for timed in timing.timed if timed.is_finalist] if timing else []


def screened_rows(choice: Choice) -> list[list[str]]:
    """Return one row for each candidate of the screening round alone, in the order of `SCREENED_COLUMNS`."""
    found = [each for each in choice.timing.timed if not each.is_finalist] if choice.timing else []
    return [
        [*_way(each.candidate), f"~{each.ratio.ratio:.1f}x", _accuracy(each.candidate), _rejected(each.candidate)]
        for each in found
    ]


def _rejected(candidate: Candidate) -> str:
    return "rejected" if candidate.rejected_because else ""


def _row(timed: TimedCandidate, timing: Timing) -> list[str]:
    result, ratio = timed.result, timed.ratio
    interval = f" ({ratio.low:.2f}..{ratio.high:.2f})" if ratio.low < ratio.high else ""
    # What all have in common is said once, below the table.
    differ, is_best = not _is_shared(timing), timed is timing.winner
    return [
        *_way(timed.candidate),
        format_ms(result.p50_ms),
        f"{ratio.ratio:.2f}{interval}" if not is_best else "1",
        _accuracy(timed.candidate),
        ", ".join([*(["recommended"] if differ and is_best else []), *(result.causes if differ else [])]),
    ]


def _is_shared(timing: Timing) -> bool:
    return len({tuple(each.result.causes) for each in timing.timed if each.is_finalist}) == 1


def _way(candidate: Candidate) -> list[str]:
    return [candidate.file.name, f"{candidate.engine}{on_device(candidate.device)}", str(candidate.threads)]


def _accuracy(candidate: Candidate) -> str:
    return percent(candidate.comparison.accuracy, 2) if candidate.comparison else ""


def rejection_lines(choice: Choice) -> list[str]:
    """Return why candidates may not be shipped: one line per reason, with the candidates it applies to."""

    def reason(candidate: Candidate) -> str:
        return candidate.rejected_because

    rejected = sorted(filter(reason, choice.candidates), key=reason)
    return [f"{_describe(list(group))}: {why}" for why, group in groupby(rejected, key=reason)]


def _describe(group: Sequence[Candidate]) -> str:
    files = ", ".join(dict.fromkeys(each.file.name for each in group))
    engines = dict.fromkeys(each.engine + on_device(each.device) for each in group)
    return f"{files} in {', '.join(engines)}"


def _conclusion(choice: Choice) -> list[str]:
    scored = f"Scored on {choice.images.name}; a file may lose {choice.max_drop * 100:g} points."
    if choice.timing is None:
        return [f"Nothing may be shipped. {scored}"]
    winner = choice.timing.winner
    comparison, result = winner.candidate.comparison, winner.result
    change = "" if comparison is None else f" ({format_change(comparison.drop)} points)"
    accuracy = "" if comparison is None else f", accuracy {percent(comparison.accuracy, 2)}{change}"
    valid = ["All times are valid."] if all(each.valid for each in choice.timing.record.results) else choice.doubts
    method = (
        "All candidates were timed in turns in a screening round, then for longer the two fastest and those whose "
        f"confidence interval begins within {percent(NEAR - 1, 0)} of the fastest."
    )
    lines = [
        f"Recommended: {winner.candidate.name}: {format_ms(result.p50_ms)} ms{accuracy}.",
        *valid,
        choice.margin,
        choice.int8,
        _compare_with_usual(choice),
        scored,
        f"{method} {caption(choice.timing.record)}",
    ]
    return list(filter(None, lines))


def _compare_with_usual(choice: Choice) -> str:
    """Return how the winner differs from what the machine's profile, and so `doctor`, recommends; "" if it does not."""
    winner, timing = choice.winner, choice.timing
    if choice.usual is None or timing is None or winner is None:
        return ""

    def is_usual(candidate: Candidate) -> bool:
        way = candidate.precision, candidate.file.suffix.removeprefix("."), candidate.engine
        return way == choice.usual and candidate.device == "cpu" and not candidate.rejected_because

    found = next((each for each in timing.timed if is_usual(each.candidate)), None)
    if found is None or is_usual(winner.candidate):
        return ""
    about = "" if found.is_finalist else "about "
    return (
        f"'edgecls doctor' names {found.candidate.name} for such machines without measuring. With this network it "
        f"takes {about}{found.ratio.ratio:.2f} times as long here."
    )
