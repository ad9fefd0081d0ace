"""What `edgecls sweep --host` does on the board: says which board it is, and times the files that were made for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecls.cli import benchmark_there
from edgecls.cli.host import parse_answer, run_on_board
from edgecls.errors import ConfigError

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.progress import Progress
    from edgecls.remote import Board


def find_device(board: Board, device: str | None) -> str:
    """Return the name of the board's profile, by `edgecls doctor` there; exits as it exits.

    Args:
        board: to ask, before anything is trained for it.
        device: the name that the user gave.

    Raises:
        ConfigError: it is another board, or has no profile and none was given.
    """
    from edgecls.remote_luggage import Luggage

    lines: list[str] = []
    # Which engine is missing there, doctor says itself.
    if status := run_on_board(board, ["doctor", "--json"], Luggage(), lines.append, engine="litert"):
        raise click.exceptions.Exit(status)
    found: str | None = parse_answer(board, "\n".join(lines)).get("device")
    if device and found and device != found:
        raise ConfigError(f"{board.host} is a {found}, not a {device}; leave --device out")
    if not device and not found:
        raise ConfigError(f"{board.host} is no board with a profile; name the one that is most like it with --device")
    return str(device or found)


def benchmark(board: Board, files: Sequence[Path], progress: Progress) -> Record:
    """Return what a board takes for the files; exits as `edgecls benchmark` exits there."""
    from edgecls.sweep.latency import SECONDS

    usual = {"engines": (), "threads": (), "device": "cpu", "scope": "invoke", "fps": None, "images": None}
    return benchmark_there.measure(files, usual | {"seconds": SECONDS}, board, progress)
