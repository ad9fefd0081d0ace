"""What `edgecls choose` found, and how it is told: a record, its JSON document, its text, its Markdown."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from edgecls import __version__
from edgecls.benchmark.table import align, caption, format_ms
from edgecls.benchmark.verdict import CONTENTION
from edgecls.choose import candidates as candidate_module
from edgecls.choose import rounds
from edgecls.choose.candidates import Candidate, Images
from edgecls.choose.rounds import NEAR, Timed, Timing

SCHEMA = 1
COLUMNS = ("file", "engine", "threads", "p50 ms", "times", "95 % interval", "accuracy", "drop", "valid")


@dataclass(frozen=True, eq=False)
class Choice:
    """What was found.

    Attributes:
        run: the run folder.
        images: that files were scored on.
        max_drop: accuracy that a file may lose.
        device: the board that it is for, or "" for this machine.
        is_here: False if that board is not the machine that was timed.
        candidates: all of them.
        timing: None if none may be shipped.
        int8: what int8 gained or why it lost.
        advice: what the board's profile recommends, if it could not be timed.
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
    def winner(self) -> Timed | None:
        """Return the recommended configuration, or None if none may be shipped."""
        return self.timing.winner if self.timing else None

    @functools.cached_property
    def margin(self) -> str:
        """Return how far ahead the winner is, in a sentence; "" if it was alone."""
        if self.timing is None or (second := self.timing.runner_up) is None:
            return ""
        ratio, name = second.ratio, second.candidate.name
        interval = f"{ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times"
        if ratio.low <= 1 <= ratio.high:
            return f"No different from {name}, which takes {interval} as long."
        return f"The next, {name}, takes {interval} as long."

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a reader must not overlook."""
        found = [self.images.note]
        if not self.is_here:
            found.append(
                f"timed on this machine, which is not {self.device}: these times do not answer for it. Only files that "
                f"pass its check were admitted; run 'edgecls choose' on the board itself. {self.advice}".strip()
            )
        if self.winner is not None and not self.winner.result.valid:
            found.append(self._explain_not_valid(self.winner))
        if doubtful := self._faster_but_not_valid():
            found.append(f"perhaps faster, but not measured validly: {doubtful}; choose again on a quiet machine")
        return tuple(filter(None, found))

    def _explain_not_valid(self, winner: Timed) -> str:
        if winner.is_sound:
            return f"its time is not valid ({CONTENTION}), which only makes it longer: it was the fastest all the same"
        causes = ", ".join(winner.result.causes)
        return f"no measurement is valid ({causes}): the order may change; choose again on a quiet machine"

    def _faster_but_not_valid(self) -> str:
        if self.timing is None or not self.timing.winner.is_sound:
            return ""
        doubtful = (each for each in self.timing.timed if each.is_long and not each.is_sound)
        return "; ".join(
            f"{each.candidate.name} ({each.ratio.ratio:.2f} times)" for each in doubtful if each.ratio.ratio < 1
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document that `choose --json` prints."""
        timed = {each.candidate: each for each in self.timing.timed} if self.timing else {}
        rows = []
        for candidate in self.candidates:
            row = {"p50_ms": None} | candidate_module.to_json(candidate)
            because: str | None = candidate.rejected_because
            if self.timing is not None and (found := timed.get(candidate)) is not None:
                row |= rounds.to_json(found)
                because = rounds.explain_place(found, self.timing)
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
    parts += [f"out: {line}" for line in rejection_lines(choice)]
    return "\n".join([*parts, "", *_conclusion(choice)])


def markdown_report(choice: Choice) -> str:
    """Return the choice as Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *table_rows(choice)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    out = "\n".join(f"- {line}" for line in rejection_lines(choice)) or "- nothing"
    warnings = [f"**Warning: {warning}**" for warning in choice.warnings]
    return "\n\n".join(
        ["# What was chosen, and why", *_conclusion(choice), *warnings, "## Timed", table, "## Out", f"{out}\n"]
    )


def table_rows(choice: Choice) -> list[list[str]]:
    """Return one row for each candidate that was timed, in the order of `COLUMNS`, the fastest first."""
    return [_row(timed) for timed in choice.timing.timed] if choice.timing else []


def _row(timed: Timed) -> list[str]:
    candidate, result, ratio = timed.candidate, timed.result, timed.ratio
    where = "" if candidate.device == "cpu" else f" {candidate.device}"
    comparison = candidate.comparison
    scores = [f"{comparison.accuracy:.4f}", f"{comparison.drop:+.4f}"] if comparison else ["", ""]
    valid = "yes" if result.valid else f"no: {', '.join(result.causes)}"
    interval = f"{ratio.low:.2f}..{ratio.high:.2f}" if ratio.low < ratio.high else ""
    return [
        candidate.file.name,
        f"{candidate.engine}{where}",
        str(candidate.threads),
        format_ms(result.p50_ms),
        f"{ratio.ratio:.2f}",
        interval if timed.is_long else "short round",
        *scores,
        "out" if candidate.rejected_because else valid,
    ]


def rejection_lines(choice: Choice) -> list[str]:
    """Return why candidates may not be shipped: one line a reason, with those that it concerns."""

    def reason(candidate: Candidate) -> str:
        return candidate.rejected_because

    rejected = sorted(filter(reason, choice.candidates), key=reason)
    return [f"{_describe(list(group))}: {why}" for why, group in groupby(rejected, key=reason)]


def _describe(group: Sequence[Candidate]) -> str:
    files = ", ".join(dict.fromkeys(each.file.name for each in group))
    engines = dict.fromkeys(each.engine + ("" if each.device == "cpu" else f" on {each.device}") for each in group)
    return f"{files} in {', '.join(engines)}"


def _conclusion(choice: Choice) -> list[str]:
    if choice.timing is None:
        return [f"Nothing may be shipped. Scored on {choice.images.name}, at most {choice.max_drop:g} lost."]
    winner = choice.timing.winner
    comparison, result = winner.candidate.comparison, winner.result
    accuracy = f", accuracy {comparison.accuracy:.4f} (drop {comparison.drop:+.4f})" if comparison else ""
    valid = "valid" if result.valid else f"not valid: {', '.join(result.causes)}"
    lines = [f"Recommended: {winner.candidate.name}: {format_ms(result.p50_ms)} ms ({valid}){accuracy}.", choice.margin]
    lines += [choice.int8, f"Scored on {choice.images.name}, at most {choice.max_drop:g} lost."]
    lines.append(
        "Timed in turns: all in a short round, then again for longer the two fastest and those whose interval reaches "
        f"within {NEAR - 1:.0%} of the fastest. {caption(choice.timing.record)}"
    )
    return list(filter(None, lines))
