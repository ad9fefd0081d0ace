"""The options `--host` and `--python`, and what the commands that have them do alike."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls import __version__
from edgecls.cli.output import echo
from edgecls.cli.terminal import warn
from edgecls.errors import RemoteError

if TYPE_CHECKING:
    from edgecls.progress import Progress
    from edgecls.remote import Board
    from edgecls.remote_luggage import Luggage

SHOWN_CHARACTERS = 200


def host_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--host` and `--python`; it gets them as `board`, None without `--host`."""

    @click.option("--host", metavar="USER@BOARD", help="Run it on this board, over ssh. Nothing stays there.")
    @click.option("--python", metavar="PATH", help="The Python there that has edgecls.  [default: python3]")
    @functools.wraps(command)
    def with_board(*args: Any, host: str | None, python: str | None, **options: Any) -> Any:
        if python is not None and host is None:
            raise click.UsageError("--python names the Python on a board; it needs --host")
        if host is not None and not host.strip():
            raise click.UsageError("--host needs a name such as pi@raspberrypi.local")
        return command(*args, board=_board(host, python) if host else None, **options)

    return with_board


def _board(host: str, python: str | None) -> Board:
    # Whoever predicts on this machine need not wait for these modules.
    from edgecls.remote import Board

    # Without a terminal nobody could answer what ssh asks.
    return Board(host, python or Board.python, asks=sys.stdin.isatty())


def pack_file(luggage: Luggage, file: Path) -> str:
    """Return the name that an exported file gets on the board; raise ModelFileError if it is none."""
    from edgecls.container import detect_kind
    from edgecls.spec import read_bytes

    return luggage.add(file, str(file), f".{detect_kind(read_bytes(file))}")


def run_on_board(
    board: Board,
    arguments: Sequence[str],
    luggage: Luggage,
    on_line: Callable[[str], object],
    *,
    engine: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> int:
    """Return the exit status of an edgecls command that ran on a board.

    Args:
        board: to run it on.
        arguments: with the names that files have there; the first file decides which engine the board needs.
        luggage: those files.
        on_line: gets each line of its stdout. Its stderr is shown.
        engine: that was asked for.
        device: that was asked for.
        progress: told of files that are copied; None shows it.
    """
    from edgecls.cli.live import LiveProgress
    from edgecls.remote import connect
    from edgecls.remote_faults import install_text
    from edgecls.runtime.engines import ALIASES, own_engine
    from edgecls.runtime.install import install_line

    kind: Any = next(iter(luggage.files), "").rpartition(".")[2]
    needed = ALIASES.get(engine, engine) if engine else own_engine(kind)

    def install(facts: dict[str, Any]) -> str:
        return install_line(needed, device, machine=facts["machine"], python=tuple(facts["python"][:2]))

    def tell(line: str) -> None:
        echo(luggage.restore(line), err=True)

    with connect(board, install, tell) as connection:
        there = connection.facts["edgecls"]
        if there != __version__:
            warn(f"edgecls is {there} on {board.host} and {__version__} here; figures and answers are those of {there}")
        with contextlib.nullcontext(progress) if progress else LiveProgress() as told:
            connection.send(luggage.files, told)
        for line in connection.run(arguments):
            on_line(line)
        status = connection.finish()
    missing = re.search(r"; (pip (?:un)?install .*)", connection.last_words)
    if status and missing:
        echo(install_text(board.host, board.quoted_python, missing[1], connection.facts["pip"]), err=True)
    return status


def parse_answer(board: Board, text: str) -> Any:
    """Return the JSON document that a command on a board printed; raise RemoteError if it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RemoteError(
            f"edgecls on {board.host} printed {text[:SHOWN_CHARACTERS]!r}, which is no JSON; install the same version "
            f"there as here, {__version__}"
        ) from error
