"""edgecls train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgecls.cli.terminal import PATH, ProgressBars, load_tensorflow, warn
from edgecls.config import FLIPS, HEADS, WEIGHT_SOURCES, AugmentConfig, TrainConfig

Command = TypeVar("Command", bound=Callable[..., Any])


def _augment_options(command: Command) -> Command:
    defaults = AugmentConfig()
    options = [
        click.option("--augment/--no-augment", default=True, show_default=True, help="Also train on changed images."),
        click.option("--flip", type=click.Choice(FLIPS), default=defaults.flip, show_default=True, help="Mirror."),
        *(
            click.option(f"--{name}", type=float, default=getattr(defaults, name), show_default=True, help=text)
            for name, text in {
                "rotation": "Largest turn, as a fraction of a full one; 0 is off.",
                "translation": "Largest shift, as a fraction of the side; 0 is off.",
                "zoom": "Largest zoom in or out, as a fraction; 0 is off.",
                "brightness": "Largest change of brightness, as a fraction of white; 0 is off.",
                "contrast": "Largest change of contrast, as a fraction; 0 is off.",
            }.items()
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("data", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder for the run; must be new.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option("--skip-bad", is_flag=True, help="Go on without unreadable images.")
@click.option("--image-size", type=int, default=TrainConfig.image_size, show_default=True, help="Side in pixels.")
@click.option("--alpha", type=float, default=TrainConfig.alpha, show_default=True, help="Width of MobileNetV2.")
@click.option("--head", type=click.Choice(HEADS), default=TrainConfig.head, show_default=True)
@click.option(
    "--weights", default=TrainConfig.weights, show_default=True, help=f"{', '.join(WEIGHT_SOURCES)} or a file."
)
@click.option("--epochs", type=int, default=TrainConfig.epochs, show_default=True, help="At most.")
@click.option("--batch-size", type=int, default=TrainConfig.batch_size, show_default=True)
@click.option("--dropout", type=float, default=TrainConfig.dropout, show_default=True)
@click.option("--seed", type=int, default=TrainConfig.seed, show_default=True)
@_augment_options
def train(data: Path, out: Path, overwrite: bool, skip_bad: bool, augment: bool, **settings: Any) -> None:
    """Train a classifier on DATA: a folder of class folders, or one with train/, val/ and test/ of them.

    \b
    Examples:
      edgecls train photos --out run
      edgecls train photos --out run --image-size 128 --no-augment
    """
    changes = {
        name: settings.pop(name) for name in ("flip", "rotation", "translation", "zoom", "brightness", "contrast")
    }
    config = TrainConfig(augment=AugmentConfig(**changes) if augment else None, **settings)
    load_tensorflow()
    from edgecls.training.train import train as train_run

    with ProgressBars() as bars:
        result = train_run(data, out, config, skip_bad=skip_bad, overwrite=overwrite, progress=bars)
    for warning in result.warnings:
        warn(warning)
    record, metrics = result.record, result.record["metrics"]
    source = record["weights"]["source"]
    click.echo(f"classes     {', '.join(record['classes'])}")
    click.echo(f"weights     {source}" + (f" (sha256 {record['weights']['sha256'][:12]})" if source != "none" else ""))
    click.echo(f"validation  {metrics['val_accuracy']:.4f} accuracy")
    if metrics["test_accuracy"] is not None:
        click.echo(f"test        {metrics['test_accuracy']:.4f} accuracy")
    click.echo(f"macro F1    {metrics['macro_f1']:.4f}")
    click.echo(f"time        {record['seconds']:.0f} s")
    click.echo(f"Next: edgecls export {out} --int8")
