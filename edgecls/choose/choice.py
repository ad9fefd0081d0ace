"""The result of `edgecls choose` as a record and a JSON document, with its doubts in words."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecls import __version__
from edgecls.benchmark.table import why_invalid
from edgecls.choose import candidates as candidate_module
from edgecls.choose import rounds
from edgecls.choose.candidates import Candidate, Images
from edgecls.choose.rounds import TimedCandidate, Timing

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Choice:
    """The recommended way to run a network, and all others.

    Attributes:
        usual: precision, format and engine that the profile of the timed machine recommends, or None.
    """

    run: Path
    images: Images
    max_drop: float
    device: str  # the name of the board, or "" for this machine
    is_here: bool  # False if that board is not the machine that was timed
    candidates: tuple[Candidate, ...]
    timing: Timing | None  # None if no candidate may be shipped
    int8: str = ""  # whether int8 is the fastest, and why or why not
    advice: str = ""  # what the board's profile recommends, if the board was not timed
    usual: tuple[str, str, str] | None = None

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
    def notes(self) -> tuple[str, ...]:
        """What a user must know of the images and of the board before trusting the recommendation."""
        away = (
            ""
            if self.is_here
            else (
                f"timed on this machine, not on {self.device}: times there will differ. Only files that run on "
                f"{self.device} were considered; run 'edgecls choose' on the board itself. {self.advice}".strip()
            )
        )
        return tuple(filter(None, (self.images.note, away)))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is wrong with the times, why, and what to do; empty if all are valid."""
        return tuple(_find_doubts(self.timing)) if self.timing else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes and the doubts."""
        return *self.notes, *self.doubts

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


def _find_doubts(timing: Timing) -> Iterator[str]:
    winner = timing.winner
    why, causes = why_invalid(timing.record), ", ".join(winner.result.causes)
    if not winner.is_usable:
        yield f"No time is valid ({causes}), so the order may change. {why} Then choose again."
        return
    if not winner.result.valid:
        yield (
            f"Other processes made the times longer ({causes}). All were timed in turns, so their order holds where "
            f"the intervals say so. {why}".rstrip()
        )
    unsure = [each for each in timing.timed if each.is_finalist and not each.is_usable and each.ratio.ratio < 1]
    for each in unsure:
        yield (
            f"{each.candidate.name} may be faster ({each.ratio.ratio:.2f} times), but its time is invalid "
            f"({', '.join(each.result.causes)}). {'' if not winner.result.valid else why}".rstrip()
        )
