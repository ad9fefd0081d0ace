"""The callback that long work reports its progress to. Imports the standard library only."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as progress(stage, done, total, note) now and then; a new stage begins when its name changes."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Report that `done` of `total` are done, with a short note such as "val 0.9312, best 0.9401"."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore all progress."""
