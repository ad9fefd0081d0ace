"""How long work tells its caller how far it is. Imports nothing of ours."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as progress(stage, done, total, note) now and then; a new stage begins when its name changes."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Hear that `done` of `total` are done, and a few words on how well: "val 0.9312, best 0.9401"."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore all progress: the default where nobody watches."""
