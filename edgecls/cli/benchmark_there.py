"""What `edgecls benchmark --host` does: the whole benchmark runs on the board, the record comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.host import pack_file, parse_answer, run_on_board
from edgecls.cli.output import echo
from edgecls.cli.terminal import STDOUT, counting_left_out, print_json

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.progress import Progress
    from edgecls.remote import Board
    from edgecls.remote_luggage import Luggage


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
    from edgecls.remote_luggage import Luggage

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
