"""Findings of a check of a file or of a machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "no"]


@dataclass(frozen=True)
class RuleResult:
    """The outcome of one rule."""

    rule: str  # its name, a word or two
    level: Level  # "ok"; "note" (it works, with a remark); "no" (it does not work)
    text: str  # the reason, and after a "no" what to do


def is_yes(findings: Iterable[RuleResult]) -> bool:
    """Return whether no finding has the level "no"."""
    return all(finding.level != "no" for finding in findings)


def reasons_against(findings: Iterable[RuleResult]) -> str:
    """Return the texts of the findings of level "no", joined; "" if there is none."""
    return "; ".join(finding.text for finding in findings if finding.level == "no")


def rules_against(findings: Iterable[RuleResult]) -> list[str]:
    """Return the rules of the findings of level "no", each once."""
    return list(dict.fromkeys(finding.rule for finding in findings if finding.level == "no"))
