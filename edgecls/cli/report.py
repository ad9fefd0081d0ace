"""edgecls report."""

from __future__ import annotations

from pathlib import Path

import click

from edgecls.cli.terminal import PATH, echo


@click.command()
@click.argument("run", type=PATH)
@click.option("--open", "show", is_flag=True, help="Also open the page in the browser.")
def report(run: Path, show: bool) -> None:
    """Write RUN/report.html, one page with the results and pictures of RUN, and print its path.

    The page needs no network and no other file. Run this again after an export to include the exported files.

    \b
    Example:
      edgecls report run --open
    """
    from edgecls.report.page import write_report

    page = write_report(run)
    echo(page)
    if show:
        click.launch(str(page))
