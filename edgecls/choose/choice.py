"""The result of `edgecls choose` as a record, a JSON document, text and Markdown."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from edgecls import __version__
from edgecls.benchmark.table import align, caption, format_ms
from edgecls.choose import candidates as candidate_module
from edgecls.choose import rounds
from edgecls.choose.candidates import Candidate, Images, on_device
from edgecls.choose.rounds import NEAR, TimedCandidate, Timing
from edgecls.export.gate import format_change

SCHEMA = 1
COLUMNS = ("file", "engine", "threads", "p50 ms", "times", "95 % interval", "accuracy", "change", "valid")


@dataclass(frozen=True, eq=False)
class Choice:
    """The recommended way to run a network, and all others.

    Attributes:
        device: the name of the board, or "" for this machine.
        is_here: False if that board is not the machine that was timed.
        timing: None if no candidate may be shipped.
        int8: whether int8 is the fastest, and why or why not.
        advice: what the board's profile recommends, if the board was not timed.
    """

    run: Path
    images: Images
    max_drop: float
    device: str
    is_here: bool
    candidates: tuple[Candidate, ...]
    timing: Timing | None
    int8: str = ""
    advice: str = ""

    @property
    def winner(self) -> TimedCandidate | None:
        """The recommended configuration, or None if none may be shipped."""
        return self.timing.winner if self.timing else None

    @functools.cached_property
    def margin(self) -> str:
        """How much faster the winner is than the next one, in a sentence, or ""."""
        if self.timing is None or (second := self.timing.runner_up) is None:
            return ""
        ratio, name = second.ratio, second.candidate.name
        interval = f"{ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times"
        if ratio.low <= 1 <= ratio.high:
            return f"Not significantly faster than {name}, which takes {interval} as long."
        return f"The next, {name}, takes {interval} as long."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know before trusting the recommendation."""
        found = [self.images.note]
        if not self.is_here:
            found.append(
                f"timed on this machine, not on {self.device}: times there will differ. Only files that run on "
                f"{self.device} were considered; run 'edgecls choose' on the board itself. {self.advice}".strip()
            )
        if self.timing is not None:
            found += self._timing_warnings(self.timing)
        return tuple(filter(None, found))

    def _timing_warnings(self, timing: Timing) -> Iterator[str]:
        winner, causes = timing.winner, ", ".join(timing.winner.result.causes)
        if not winner.is_usable:
            yield f"no time is valid ({causes}), so the order may change; choose again on an idle machine"
            return
        if not winner.result.valid:
            yield f"the recommended one's time is invalid ({causes}), but only too long: it is still the fastest"
        unsure = [each for each in timing.timed if each.is_finalist and not each.is_usable and each.ratio.ratio < 1]
        if unsure:
            names = "; ".join(f"{each.candidate.name} ({each.ratio.ratio:.2f} times)" for each in unsure)
            yield f"perhaps faster, but with an invalid time: {names}; choose again on an idle machine"

    def to_json(self) -> dict[str, Any]:
        """Return the document that `choose --json` prints."""
        timed = {each.candidate: each for each in self.timing.timed} if self.timing else {}
        rows = []
        for candidate in self.candidates:
            row = {"p50_ms": None} | candidate_module.to_json(candidate)
            because: str | None = candidate.rejected_because
            if self.timing is not None and (found := timed.get(candidate)) is not None:
                row |= rounds.to_json(found)
                because = rounds.explain_rank(found, self.timing)
            rows.append(row | {"rejected_because": because or None})
        winner = self.winner.candidate if self.winner else None
        recommended = next((row for row, each in zip(rows, self.candidates, strict=True) if each is winner), None)
        return {
            "schema": SCHEMA,
            "edgecls": __version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "run": str(self.run),
            "images": self.images.name,
            "max_drop": self.max_drop,
            "device": self.device or None,
            "timed_on_device": self.is_here,
            "machine": self.timing.record.machine if self.timing else None,
            "recommended": recommended,
            "margin": self.margin,
            "int8": self.int8,
            "warnings": list(self.warnings),
            "candidates": rows,
        }


def text_report(choice: Choice) -> str:
    """Return the choice as plain text."""
    parts = [align([COLUMNS, *table_rows(choice)])] if choice.timing else []
    parts += [f"rejected: {line}" for line in rejection_lines(choice)]
    return "\n".join([*parts, "", *_conclusion(choice)])


def markdown_report(choice: Choice) -> str:
    """Return the choice as Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *table_rows(choice)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    rejected = "\n".join(f"- {line}" for line in rejection_lines(choice)) or "- none"
    warnings = [f"**Warning: {warning}**" for warning in choice.warnings]
    lines = ["# Recommended configuration", *_conclusion(choice), *warnings]
    return "\n\n".join([*lines, "## Times", table, "## Rejected", f"{rejected}\n"])


def table_rows(choice: Choice) -> list[list[str]]:
    """Return one row for each candidate that was timed, in the order of `COLUMNS`, the fastest first."""
    return [_row(timed) for timed in choice.timing.timed] if choice.timing else []


def _row(timed: TimedCandidate) -> list[str]:
    candidate, result, ratio = timed.candidate, timed.result, timed.ratio
    comparison = candidate.comparison
    scores = [f"{comparison.accuracy * 100:.2f} %", format_change(comparison.drop)] if comparison else ["", ""]
    valid = "yes" if result.valid else f"no: {', '.join(result.causes)}"
    interval = f"{ratio.low:.2f}..{ratio.high:.2f}" if ratio.low < ratio.high else ""
    return [
        candidate.file.name,
        f"{candidate.engine}{on_device(candidate.device)}",
        str(candidate.threads),
        format_ms(result.p50_ms),
        f"{ratio.ratio:.2f}",
        interval if timed.is_finalist else "screening",
        *scores,
        "rejected" if candidate.rejected_because else valid,
    ]


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
    accuracy = "" if comparison is None else f", accuracy {comparison.accuracy * 100:.2f} %{change}"
    valid = "valid" if result.valid else f"invalid: {', '.join(result.causes)}"
    lines = [f"Recommended: {winner.candidate.name}: {format_ms(result.p50_ms)} ms ({valid}){accuracy}.", choice.margin]
    method = (
        "All candidates were timed in turns in a screening round, then for longer the two fastest and those whose "
        f"confidence interval begins within {(NEAR - 1) * 100:.0f} % of the fastest."
    )
    return list(filter(None, [*lines, choice.int8, scored, f"{method} {caption(choice.timing.record)}"]))
