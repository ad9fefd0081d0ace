"""edgecls export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.boards.profiles import board_names, export_target, load_profile
from edgecls.boards.targets import TARGETS, find_target
from edgecls.cli.output import echo
from edgecls.cli.terminal import PATH, ProgressBars, load_tensorflow, warn
from edgecls.config import ExportConfig
from edgecls.limits import FORMATS, PRECISIONS

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult


@click.command()
@click.argument("run", type=PATH)
@click.option("--int8", "int8", is_flag=True, help="Full integer: smallest and fastest.")
@click.option("--fp16", "fp16", is_flag=True, help="Float weights of 16 bits: half the size of fp32.")
@click.option("--fp32", "fp32", is_flag=True, help="Float; the default if no precision is named.")
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(FORMATS), help="[default: all that the device runs]"
)
@click.option(
    "--max-drop", type=float, default=ExportConfig.max_drop, show_default=True, help="Accuracy a file may lose."
)
@click.option(
    "--device",
    help=f"What runs the int8 files: a board ('edgecls devices'), or {', '.join(TARGETS)}.  [default: this machine]",
)
@click.option("--layers", is_flag=True, help="Also measure what each layer of the int8 TFLite file loses.")
@click.option(
    "--prune",
    type=float,
    default=ExportConfig.prune,
    show_default=True,
    help="Leave channels that the training images hardly use out of int8 files: 0 keeps all, 0.1 is faster and less"
    " like the float model.",
)
@click.option(
    "--golden/--no-golden", default=True, show_default=True, help="Put a few images into the files for selftest."
)
@click.option("--out", type=PATH, help="Folder for the files.  [default: RUN/export]")
@click.option("--data", type=PATH, help="The run's images, if they moved.")
def export(run: Path, formats: tuple[Any, ...], out: Path | None, data: Path | None, **settings: Any) -> None:
    """Write RUN's model as TFLite and ONNX files, and score each file on images it never saw.

    Exits with 1 if a file lost more accuracy than --max-drop; it is then named NAME.rejected.SUFFIX.

    \b
    Examples:
      edgecls export run --int8
      edgecls export run --int8 --fp16 --fp32 --format tflite --out files
      edgecls export run --int8 --device coral
    """
    precisions = tuple(name for name in PRECISIONS if settings.pop(name))
    board = settings["device"] if settings["device"] in board_names() else None
    settings["device"] = export_target(settings["device"])
    target = find_target(settings["device"])
    config = ExportConfig(
        precisions=precisions or ExportConfig.precisions, formats=formats or target.formats, **settings
    )
    load_tensorflow()
    from edgecls.export.artifact import export_run

    with ProgressBars() as bars:
        result = export_run(run, config, out=out, data=data, progress=bars)
    print_export(result)
    if target.edge_tpu:
        echo("scored on this machine's CPU, not on an Edge TPU. Next: edgecls check FILE --device coral-usb --compile")
    if board:
        check_board(result, board)
    check_gate(result)
    if result.files and not target.edge_tpu:
        file = result.folder / result.files[0].path
        echo(f"Next: edgecls predict {file} IMAGE      or which file is fastest: edgecls choose {run} DATA")


def check_board(result: ExportResult, board: str) -> None:
    """Raise Click's error, exit code 1, with the reason for every good file that the board cannot run."""
    from edgecls.boards.compatibility import check_file
    from edgecls.boards.finding import is_yes

    profile, refused = load_profile(board), []
    for file in result.files:
        findings = check_file(result.folder / file.path, profile) if file.passed else ()
        if not is_yes(findings):
            reasons = "".join(f"\n  {finding.text}" for finding in findings if finding.level == "no")
            refused.append(f"{file.path} does not run on {board}:{reasons}")
    if refused:
        raise click.ClickException("\n".join(refused))
    echo(f"{board} runs what passed; how to install it there: edgecls check FILE --device {board}")


def print_export(result: ExportResult) -> None:
    """Print the table of files, and where pictures and tables that belong to them are."""
    from edgecls.export.export_folder import layers_name

    for note in result.notes:
        warn(note)
    echo(f"{'file':30} {'bytes':>10} {'accuracy':>9} {'drop':>8} {'agreement':>10}")
    echo(f"{'(Keras, float)':30} {'':>10} {result.float_accuracy:9.4f}")
    for file in result.files:
        measured = file.comparison
        figures = f"{file.bytes:10,} {measured.accuracy:9.4f} {measured.drop:+8.4f} {measured.agreement:10.4f}"
        echo(f"{file.path:30} {figures}  {measured.verdict}", fg=None if file.passed else "red")
    echo(f"{result.images} held-out images; files in {result.folder}")
    for file in result.files:
        if file.flips:
            echo(f"images that changed their label in {file.path}: {result.folder / file.flips}")
        if file.worst_layer:
            table = result.folder / layers_name(file.precision, file.format)
            echo(f"layer that loses most of the signal in {file.path}: {file.worst_layer} (all: {table})")


def check_gate(result: ExportResult) -> None:
    """Raise Click's error, exit code 1, with the verdict of every file that may not be shipped."""
    rejected = [f"{file.path} {file.comparison.verdict}" for file in result.files if not file.passed]
    if rejected:
        raise click.ClickException("; ".join(rejected) + ". Do not ship it (--max-drop sets the limit)")
