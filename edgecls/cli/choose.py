"""edgecls choose."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edgecls.benchmark.plan import Settings
from edgecls.cli.output import echo
from edgecls.cli.terminal import PATH, load_tensorflow, print_json, warn
from edgecls.config import ExportConfig


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", type=PATH)
@click.option("--device", help="A board that 'edgecls devices' lists.  [default: this machine]")
@click.option(
    "--max-drop", type=float, default=ExportConfig.max_drop, show_default=True, help="Accuracy a file may lose."
)
@click.option("--seconds", type=float, default=Settings.seconds, show_default=True, help="For each of the nearest few.")
@click.option("--out", type=PATH, help="Folder to deploy.  [default: RUN/deploy]")
@click.option("--overwrite", is_flag=True, help="Replace that folder, whatever is in it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def choose(
    run: Path,
    data: Path,
    device: str | None,
    max_drop: float,
    seconds: float,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find the fastest way to run RUN's network here that keeps its accuracy on DATA, and write a folder to deploy.

    Every format, precision, engine, provider and number of threads is tried; what is not exported yet is. Exits with 1
    if nothing may be shipped.

    \b
    Examples:
      edgecls choose run photos
      edgecls choose run photos --device raspberry-pi-4b --max-drop 0.005
    """
    from edgecls.boards.profiles import load_profile
    from edgecls.choose.choice import text_report
    from edgecls.choose.choose import choose_run, needs_export
    from edgecls.choose.deploy import check_out, write_deploy
    from edgecls.cli.progress import LiveProgress

    profile = load_profile(device) if device else None
    out = out or run / "deploy"
    check_out(out, overwrite=overwrite)
    if find_spec("tensorflow") is not None and needs_export(run, profile, max_drop):
        load_tensorflow()
    with LiveProgress() as progress:
        choice = choose_run(run, data, profile=profile, max_drop=max_drop, seconds=seconds, progress=progress)
    if choice.winner is not None:
        write_deploy(choice, out)
    if as_json:
        print_json(choice.to_json())
    else:
        echo(text_report(choice))
    for warning in choice.warnings:
        warn(warning)
    if choice.winner is None:
        raise click.ClickException("nothing may be shipped; --max-drop sets the limit, the reasons stand above")
    if not as_json:
        echo(f"To deploy: {out}   try it: python {out / 'predict.py'} IMAGE")
