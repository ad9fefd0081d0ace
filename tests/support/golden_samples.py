"""Files whose golden samples are changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], dict[str, Any]]


def shifted_scores(by: float) -> Change:
    return lambda sample: {"scores": [sample["scores"][0] + by, *sample["scores"][1:]]}
