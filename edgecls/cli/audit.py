"""edgecls audit."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.data_options import LAYOUT, more_data, with_usual_size
from edgecls.cli.option_types import OutputFolder, check_writable
from edgecls.cli.terminal import PATH, echo, load_tensorflow

if TYPE_CHECKING:
    from edgecls.audit.audit import Audit

OUT = Path("audit")
REPORT_FILE, PAGE_FILE = "audit.json", "audit.html"
# Those settings of `train` that say how the data are read, and the size of the features.
SETTINGS = (*LAYOUT, "resize", "roi", "bits", "image_size", "seed", "weights")


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    from edgecls.cli.train_options import SETTINGS as ALL
    from edgecls.config import TrainConfig

    for name in reversed(SETTINGS):
        kind, text = ALL[name]
        default = getattr(TrainConfig(), name)
        shown = f"  [default: {default}]" if default not in (None, "", ()) else ""
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, default=None, help=text + shown)(command)
    return command


def _check_new(context: click.Context, parameter: click.Parameter, fix: Path | None) -> Path | None:
    """Return the path; raise BadParameter if there is a table, which someone may have reviewed, or can be none."""
    if fix and fix.exists():
        raise click.BadParameter(
            f"{fix} exists, and what you have reviewed in it would be lost; remove it or choose another name"
        )
    if fix:
        check_writable(fix, fix.absolute().parents, parameter, context)
    return fix


@click.command()
@click.argument("data", type=PATH, nargs=-1, required=True)
@click.option(
    "--out",
    type=OutputFolder({REPORT_FILE: "JSON", PAGE_FILE: "audit's page"}),
    default=OUT,
    show_default=True,
    help="Folder for audit.json and audit.html.",
)
@click.option(
    "--fix",
    type=PATH,
    metavar="CSV",
    callback=_check_new,
    help="Also write a table of images to leave out, for --exclude.",
)
@click.option("--open", "show", is_flag=True, help="Also open the page in the browser.")
@_setting_options
def audit(data: tuple[Path, ...], out: Path, fix: Path | None, show: bool, **settings: Any) -> None:
    """Look for faults in DATA before training: duplicates, wrong labels, bad exposures, and what they do to accuracy.

    DATA, one folder or several, is read as by train. Nothing in DATA is changed.
    Review the table of --fix (the column action: exclude or keep), then train with --exclude.

    \b
    Examples:
      edgecls audit photos
      edgecls audit photos --image-size 96               faster, less exact
      edgecls audit photos --fix moves.csv               then: edgecls train photos --exclude moves.csv --out run
    """
    from edgecls.config import TrainConfig

    settings["more_data"] = more_data(data)
    config = TrainConfig(**{name: value for name, value in settings.items() if value is not None})
    config = with_usual_size(data[0], config, settings)
    load_tensorflow()
    from edgecls.audit.audit import audit as find
    from edgecls.audit.audit import to_json
    from edgecls.audit.moves import write_moves
    from edgecls.audit.page import write_page
    from edgecls.cli.progress import LiveProgress
    from edgecls.files import write_json
    from edgecls.messages.lists import counted

    with LiveProgress() as progress:
        found = find(data[0], config, progress)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / REPORT_FILE, to_json(found))
    write_page(found, out / PAGE_FILE)
    _print_audit(found)
    echo(f"The images: {out / PAGE_FILE}")
    if fix:
        count = write_moves(found, fix)
        echo(f"{counted(count, 'image')} to leave out, to be reviewed: {fix}")
        echo(f"Next: edgecls train {shlex.join(map(str, data))} --exclude {shlex.quote(str(fix))} --out run")
    if show:
        click.launch(str(out / PAGE_FILE))


def _print_audit(found: Audit) -> None:
    from edgecls.audit.summary import describe_accuracy, list_notes, list_rows

    for note in list_notes(found):
        echo(note)
    rows = list_rows(found)
    for kind, count, meaning in rows:
        echo(f"{kind:26} {count:7,}  {meaning}")
    if not rows:
        echo("No problems found.")
    echo(f"\n{describe_accuracy(found)}")
