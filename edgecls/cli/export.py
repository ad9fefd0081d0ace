"""edgecls export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, ProgressBars, load_tensorflow
from edgecls.config import FORMATS, ExportConfig
from edgecls.export.targets import TARGETS

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult


@click.command()
@click.argument("run", type=PATH)
@click.option("--int8", "int8", is_flag=True, help="Full integer: smallest and fastest.")
@click.option("--fp32", "fp32", is_flag=True, help="Float; the default if no precision is named.")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Default: all.")
@click.option(
    "--max-drop", type=float, default=ExportConfig.max_drop, show_default=True, help="Accuracy a file may lose."
)
@click.option("--device", help=f"What will run the int8 files: {', '.join(TARGETS)}. Default: like this machine.")
@click.option("--layers", is_flag=True, help="Also measure what each layer of the int8 TFLite file loses.")
@click.option(
    "--golden/--no-golden", default=True, show_default=True, help="Put a few images into the files for selftest."
)
@click.option("--out", type=PATH, help="Folder for the files. Default: RUN/export.")
@click.option("--data", type=PATH, help="The run's images, if they moved.")
def export(
    run: Path, int8: bool, fp32: bool, formats: tuple[Any, ...], out: Path | None, data: Path | None, **settings: Any
) -> None:
    """Write RUN's model as TFLite and ONNX files, and score each file on images it never saw.

    Exits with 1 if a file lost more accuracy than --max-drop; it is then named NAME.rejected.SUFFIX.

    \b
    Examples:
      edgecls export run --int8
      edgecls export run --int8 --fp32 --format tflite --out files
    """
    precisions = tuple(name for name, wanted in (("fp32", fp32), ("int8", int8)) if wanted)
    config = ExportConfig(precisions=precisions or ("fp32",), formats=formats or FORMATS, **settings)
    load_tensorflow()
    from edgecls.export.artifact import export_run

    with ProgressBars() as bars:
        result = export_run(run, config, out=out, data=data, progress=bars)
    print_export(result)
    check_gate(result)


def print_export(result: ExportResult) -> None:
    """Print the table of files, and where pictures and tables that belong to them are."""
    from edgecls.export.export_folder import layers_name

    click.echo(f"{'file':30} {'bytes':>10} {'accuracy':>9} {'drop':>8} {'agreement':>10}")
    click.echo(f"{'(Keras, float)':30} {'':>10} {result.float_accuracy:9.4f}")
    for file in result.files:
        measured = file.comparison
        figures = f"{file.bytes:10,} {measured.accuracy:9.4f} {measured.drop:+8.4f} {measured.agreement:10.4f}"
        click.secho(f"{file.path:30} {figures}  {measured.verdict}", fg=None if file.passed else "red")
    click.echo(f"{result.images} held-out images; files in {result.folder}")
    for file in result.files:
        if file.flips:
            click.echo(f"images that changed their label in {file.path}: {result.folder / file.flips}")
        if file.worst_layer:
            table = result.folder / layers_name(file.precision, file.format)
            click.echo(f"layer that loses most of the signal in {file.path}: {file.worst_layer} (all: {table})")


def check_gate(result: ExportResult) -> None:
    """Raise Click's error, exit code 1, with the verdict of every file that may not be shipped."""
    rejected = [f"{file.path} {file.comparison.verdict}" for file in result.files if not file.passed]
    if rejected:
        raise click.ClickException("; ".join(rejected) + ". Do not ship it (--max-drop sets the limit)")
