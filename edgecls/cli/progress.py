"""Progress of training on stderr: a bar with remaining time and latest values, and a line for each finished stage.

Without a terminal or without Rich, only the lines.
"""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgecls.cli.terminal import echo
from edgecls.messages.names import safe

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# Without a terminal, a long stage prints a line this often.
SECONDS_A_LINE = 15.0
# A narrower terminal has room for the stage and its numbers.
FULL_WIDTH = 80


class LiveProgress:
    """An `edgecls.progress.Progress` for a `with` block."""

    def __init__(self) -> None:
        self._stage, self._note = "", ""
        self._done = self._total = 0
        self._began = self._printed = 0.0
        self._bars: RichProgress | None = None

    def __enter__(self) -> LiveProgress:
        if sys.stderr.isatty() and find_spec("rich") is not None:
            self._bars = _new_bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Show that `done` of `total` are done, and `note` until the next note."""
        if stage != self._stage or done < self._done:
            self._finish()
            self._stage, self._note, self._done = stage, "", -1
            self._began = self._printed = time.monotonic()
            if self._bars is not None:
                self._bars.add_task(safe(stage), total=total, note="")
        # The last of several networks has many notes of its own.
        goes_on = done < total or done == self._done
        self._done, self._total, self._note = done, total, note or self._note
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], completed=done, total=total, note=safe(self._note))
        # The last call's line comes when the stage ends.
        elif goes_on and time.monotonic() - self._printed >= SECONDS_A_LINE:
            self._printed = time.monotonic()
            echo(self._line(), err=True)

    def _finish(self) -> None:
        """Replace the bar of the current stage, if there is one, by a line."""
        if not self._stage:
            return
        if self._bars is None:
            echo(self._line(), err=True)
        else:
            self._bars.remove_task(self._bars.task_ids[0])
            self._bars.console.print(safe(self._line()), markup=False, highlight=False, soft_wrap=True)
        self._stage = ""

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        note = f", {self._note}" if self._note else ""
        return f"{self._stage}: {self._done:,}/{self._total:,} in {seconds:,.0f} s{note}"


def _new_bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Words(TextColumn):
        """Gives way where there is no room, so that the numbers stay whole."""

        def render(self, task: Task) -> Text:
            text = super().render(task)
            text.no_wrap, text.overflow = True, "ellipsis"
            return text

    console = Console(stderr=True)
    is_wide = console.width >= FULL_WIDTH
    left = [
        TextColumn("left"),
        TimeRemainingColumn(),
        Words("{task.fields[note]}", markup=False, table_column=Column()),
    ]
    return Progress(
        Words("{task.description}", markup=False, table_column=Column()),
        *([BarColumn(bar_width=16)] if is_wide else []),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *(left if is_wide else []),
        console=console,
        # stdout carries the command's result.
        redirect_stdout=False,
        refresh_per_second=4,
    )
