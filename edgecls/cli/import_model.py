"""edgecls import."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.data_options import LAYOUT, data_options, to_layout
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, echo, load_tensorflow, warn
from edgecls.messages.lists import some
from edgecls.messages.numbers import percent

if TYPE_CHECKING:
    from edgecls.imported.run import ImportResult

SHOWN_CLASSES = 20


@click.command("import")
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--out", required=True, type=PATH, help="New folder for the run.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option(
    "--scaling",
    help="What the notebook made of a pixel: 0..255, 0..1, -1..1, imagenet-rgb, imagenet-bgr, mean-rgb, "
    "mean-bgr, or two numbers SCALE,OFFSET.  [default: found on the training images]",
)
@click.option("--classes", metavar="A,B", help="The class folder of each output.  [default: alphabetical]")
@click.option("--image-size", type=int, help="Side in pixels, for a model that takes images of any size.")
@click.option(
    "--refit",
    is_flag=True,
    help="Adapt the last layer and the BatchNorm statistics to edgecls' resizing of the training images; kept if the "
    "validation accuracy improves.",
)
@data_options((*LAYOUT, "bits"))
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def import_model(model: Path, data: Path, out: Path, overwrite: bool, skip_bad: bool, **settings: Any) -> None:
    """Make a run of MODEL, a Keras model that was trained elsewhere: a .keras or .h5 file.

    DATA holds images of the model's classes: one folder for each class, or train/, val/ and test/ of them, or as
    --labels, --class-from or --splits say. The training images show how the model's images were scaled and which class
    each output is. No code in MODEL is run.

    \b
    Examples:
      edgecls import lecture.keras photos --out run
      edgecls import lecture.h5 photos --out run --scaling -1..1
      edgecls import lecture.keras photos --out run --classes screw,nut,bolt
    """
    load_tensorflow()
    from edgecls.imported.measure import ImportConfig
    from edgecls.imported.run import import_model as run_import

    config = ImportConfig(layout=to_layout({name: settings.pop(name) for name in LAYOUT}), **settings)
    with LiveProgress() as bars:
        result = run_import(model, data, out, config, skip_bad=skip_bad, overwrite=overwrite, progress=bars)
    for warning in result.record["warnings"]:
        warn(warning)
    print_import(result)
    run = shlex.quote(str(out))
    echo(f"Next: edgecls export {run} --int8\n      edgecls report {run}")


def print_import(result: ImportResult) -> None:
    """Print what was found, and the accuracy on held-out images."""
    from edgecls.imported.scaling import describe_trials

    measured, record = result.measured, result.record
    size = record["config"]["image_size"]
    ways = ", ".join(f"{way.name} {percent(way.accuracy)}" for way in measured.resizing)
    echo(f"images      {size} x {size} pixels")
    echo(f"scaling     {measured.scaling.name} (training images: {describe_trials(measured.trials)})")
    echo(f"classes     {some(record['classes'], SHOWN_CLASSES)} ({measured.order.text})")
    echo(f"resizing    edgecls {percent(measured.accuracy)}; without antialiasing, as Keras: {ways}")
    if result.refit:
        echo(f"refit       {result.refit.describe()}")
    metrics = record["metrics"]
    echo(f"validation  {percent(metrics['val_accuracy'], 2)} accuracy")
    if metrics["test_accuracy"] is not None:
        echo(f"test        {percent(metrics['test_accuracy'], 2)} accuracy")
    echo(f"time        {record['seconds']:.0f} s")
