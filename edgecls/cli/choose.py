"""edgecls choose."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.benchmark.plan import Settings
from edgecls.cli.terminal import PATH, echo, load_tensorflow, print_json, warn
from edgecls.config import ExportConfig

if TYPE_CHECKING:
    from edgecls.choose.choice import Choice


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", type=PATH)
@click.option("--board", help="Board that will run the network; 'edgecls devices' lists them.  [default: this machine]")
@click.option("--device", "old_board", hidden=True, help="The former name of --board.")
@click.option(
    "--max-drop",
    type=float,
    default=ExportConfig.max_drop,
    show_default=True,
    help="Accuracy that a file may lose; 0.01 is one point.",
)
@click.option("--seconds", type=float, default=Settings.seconds, show_default=True, help="Time to measure a finalist.")
@click.option("--out", type=PATH, help="Folder to copy to the board.  [default: RUN/deploy]")
@click.option("--overwrite", is_flag=True, help="Replace that folder and all files in it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def choose(
    run: Path,
    data: Path,
    board: str | None,
    old_board: str | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Find the fastest way to run RUN's network that keeps its accuracy on DATA, and write a folder to copy to a board.

    Tries every format, precision, engine, device and number of threads, and exports missing files first. Exits with 1
    if nothing may be shipped.

    \b
    Examples:
      edgecls choose run photos
      edgecls choose run photos --board raspberry-pi-4b --max-drop 0.005
    """
    from edgecls.boards.profiles import load_profile
    from edgecls.choose.choose import choose_run, needs_export
    from edgecls.choose.deploy import check_out, write_deploy
    from edgecls.cli.progress import LiveProgress

    board = old_board if board is None else board
    profile = None if board is None else load_profile(board)
    out = out or run / "deploy"
    check_out(out, overwrite=overwrite, inputs=(run, data))
    if find_spec("tensorflow") is not None and needs_export(run, profile, settings["max_drop"]):
        load_tensorflow()
    with LiveProgress() as progress:
        choice = choose_run(run, data, profile=profile, progress=progress, **settings)
    if choice.winner is not None:
        write_deploy(choice, out)
    _print(choice, data, out, as_json)


def _print(choice: Choice, data: Path, out: Path, as_json: bool) -> None:
    from edgecls.choose.report import text_report

    if as_json:
        print_json(choice.to_json())
    else:
        echo(text_report(choice))
    # The text has the doubts about the times beside the recommended one.
    for warning in choice.warnings if as_json else choice.notes:
        warn(warning)
    if choice.winner is None:
        raise click.ClickException("nothing may be shipped, for the reasons above; --max-drop sets the limit")
    if not as_json:
        image = data / choice.images.split.paths[0]
        echo(f"Folder to copy to the board: {out}")
        echo(f"Next: {shlex.join(['python', str(out / 'predict.py'), str(image)])}")
