"""How long work tells its caller how far it is. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total) now and then; a new stage begins when its name changes."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore all progress: the default where nobody watches."""
