"""Commands on a board over ssh: the options `--host` and `--python`, its benchmark, its sweep."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls import __version__
from edgecls.cli.output import echo
from edgecls.cli.terminal import STDOUT, counting_left_out, print_json, warn
from edgecls.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.progress import Progress
    from edgecls.remote.bundle import Luggage
    from edgecls.remote.host import Board

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
    from edgecls.remote.host import Board

    # Without a terminal nobody could answer what ssh asks.
    return Board(host, python or Board.python, asks=sys.stdin.isatty())


def pack_file(luggage: Luggage, file: Path) -> str:
    """Return the name that an exported file gets on the board; raise ModelFileError if it is none."""
    from edgecls.model_file.container import detect_kind
    from edgecls.model_file.metadata import read_bytes

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
    from edgecls.boards.install import install_line
    from edgecls.cli.progress import LiveProgress
    from edgecls.remote.host import connect
    from edgecls.remote.ssh_errors import install_text
    from edgecls.runtime.engines import ALIASES, own_engine

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


def measure(files: Sequence[Path], options: dict[str, Any], board: Board, progress: Progress | None = None) -> Record:
    """Return the record of a benchmark on a board; `machine` says which in `host`. Exits as it exits there."""
    from edgecls.benchmark.plan import Settings, plan
    from edgecls.benchmark.record import parse_record

    # What is wrong with the command is said before anything is copied.
    Settings(scope=options["scope"], seconds=options["seconds"], fps=options["fps"])
    plan(files, options["engines"], options["threads"], options["device"])
    document = _run(files, options, board, ["--json=-"], progress)
    record = parse_record(document, f"what edgecls on {board.host} measured")
    return replace(record, machine=record.machine | {"host": board.host})


def show_other(
    files: tuple[Path, ...], options: dict[str, Any], board: Board, json_path: Path | None, plot: Path | None
) -> None:
    """Print, and write on request, what `--profile` or `--mlperf` finds on a board. Exits as it exits there."""
    from edgecls.files import write_json

    if plot is not None:
        raise click.UsageError("--plot draws no profile of another machine; take --json, or run it on the board")
    kind = ["--profile"] if options["profile"] else [f"--mlperf={options['mlperf']}"]
    if json_path is None:
        luggage, arguments = _pack(files, options, kind)
        _finish(run_on_board(board, arguments, luggage, lambda line: echo(luggage.restore(line)), **_needs(options)))
        return
    document = _run(files, options, board, [*kind, "--json=-"])
    if json_path == STDOUT:
        print_json(document)
    else:
        write_json(json_path, document)


def _run(
    files: Sequence[Path], options: dict[str, Any], board: Board, more: list[str], progress: Progress | None = None
) -> Any:
    luggage, arguments = _pack(files, options, more)
    lines: list[str] = []
    _finish(run_on_board(board, arguments, luggage, lines.append, progress=progress, **_needs(options)))
    return luggage.restore(parse_answer(board, "\n".join(lines)))


def _pack(files: Sequence[Path], options: dict[str, Any], more: list[str]) -> tuple[Luggage, list[str]]:
    from edgecls.benchmark.plan import list_images
    from edgecls.remote.bundle import Luggage

    luggage = Luggage()
    arguments = ["benchmark", *(pack_file(luggage, file) for file in files), *more]
    arguments += [f"--engine={engine}" for engine in options["engines"]]
    if options["threads"]:
        arguments.append(f"--threads={','.join(map(str, options['threads']))}")
    arguments += [f"--{name}={options[name]}" for name in ("device", "scope", "seconds")]
    if options["fps"] is not None:
        arguments.append(f"--fps={options['fps']}")
    if options["images"] is not None:
        folder = luggage.add_folder(str(options["images"]))
        with counting_left_out() as left_out:
            for image in list_images(options["images"], left_out):
                luggage.add(image, str(image), image.suffix or ".png", folder)
        arguments.append(f"--images={folder}")
    return luggage, arguments


def _needs(options: dict[str, Any]) -> dict[str, Any]:
    return {"engine": next(iter(options["engines"]), None), "device": options["device"]}


def _finish(status: int) -> None:
    if status:
        raise click.exceptions.Exit(status)


def find_device(board: Board, device: str | None) -> str:
    """Return the name of the board's profile, by `edgecls doctor` there; exits as it exits.

    Args:
        board: to ask, before anything is trained for it.
        device: the name that the user gave.

    Raises:
        ConfigError: it is another board, or has no profile and none was given.
    """
    from edgecls.remote.bundle import Luggage

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
    return measure(files, usual | {"seconds": SECONDS}, board, progress)
