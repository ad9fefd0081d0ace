"""edgecls train."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.output import echo
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, load_tensorflow, print_findings, warn
from edgecls.config import ARCHS, FLIPS, HEADS, SCHEDULES, WEIGHT_SOURCES, AugmentConfig, TrainConfig
from edgecls.errors import ConfigError
from edgecls.messages.lists import some
from edgecls.networks.presets import PRESETS, resolve
from edgecls.parallel.pool import work_in
from edgecls.training.distributed.cluster import VARIABLE, Cluster, read_cluster

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """Seconds, from text like 90, 90s, 5m or 1.5h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 5m or 1h", param, ctx)
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


class Sizes(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers with commas between them, as a tuple; "none" is no number."""

    name = "n,n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"none|\d+(,\d+)*", value):
            self.fail(f"{value!r} is no list of sizes; write 128,64", param, ctx)
        return () if value == "none" else tuple(int(size) for size in value.split(","))


# Name of the setting -> (type, help). Defaults stand in config.py.
NETWORK: dict[str, tuple[Any, str]] = {
    "arch": (click.Choice(ARCHS), "Network."),
    "image_size": (int, "Side in pixels."),
    "bits": (int, "Bits used in 16-bit images that do not say it, 8 to 16.  [default: 16]"),
    "alpha": (float, "Width of MobileNetV2."),
    "head": (click.Choice(HEADS), "What follows MobileNetV2."),
    "weights": (str, f"{', '.join(WEIGHT_SOURCES)} or a file."),
    "hidden": (Sizes(), "Units of dense layers before the classifier: 512, or 128,64."),
    "filters": (Sizes(), "cnn: filters of each convolution."),
    "batch_norm": (bool, "Batch normalization before the classifier."),
}
LEARNING: dict[str, tuple[Any, str]] = {
    "epochs": (int, "At most."),
    "batch_size": (int, "Images a step."),
    "learning_rate": (float, "First step size.  [default: what suits the network]"),
    "schedule": (click.Choice(SCHEDULES), "How the step size falls.  [default: what suits the network]"),
    "warmup_epochs": (int, "Epochs in which it rises first."),
    "patience": (int, "Epochs without a better validation loss before a phase stops."),
    "unfreeze": (int, "Last blocks of MobileNetV2 that learn too, after the head."),
    "joint": (bool, "Also train the 1-to-3 convolution together with the head."),
    "fine_epochs": (int, "Most epochs of --unfreeze and --joint."),
    "fine_learning_rate": (float, "Their first step size."),
    "time_budget_s": (Duration(), "Stop in time with the best so far: 90s, 5m, 1h."),
    "seed": (int, "Of split, weights, order and augmentation."),
}
REGULARISATION: dict[str, tuple[Any, str]] = {
    "dropout": (float, "Share of features dropped before the classifier."),
    "weight_decay": (float, "AdamW's; 0 is off."),
    "l2": (float, "Factor of the squared weights in the loss; 0 is off."),
    "label_smoothing": (float, "0 is off."),
    "clip_norm": (float, "Largest norm of the gradients; 0 is off."),
    "balance": (bool, "Weight classes by the inverse of their number of images."),
}
AUGMENTATION: dict[str, tuple[Any, str]] = {
    "augment": (bool, "Also train on changed images."),
    "views": (int, "Changed versions of each image."),
    "flip": (click.Choice(FLIPS), "Mirror."),
    "rotation": (float, "Largest turn, as a fraction of a full one; 0 is off."),
    "translation": (float, "Largest shift, as a fraction of the side; 0 is off."),
    "zoom": (float, "Largest zoom in or out, as a fraction; 0 is off."),
    "brightness": (float, "Largest change of brightness, as a fraction of white; 0 is off."),
    "contrast": (float, "Largest change of contrast, as a fraction; 0 is off."),
}
SETTINGS = {**NETWORK, **LEARNING, **REGULARISATION, **AUGMENTATION}
SHOWN_CLASSES = 20


def _setting_options(command: Command) -> Command:
    """Add one option for each setting; an option that is not given stays None and leaves the preset's value."""
    defaults = {**dataclasses.asdict(TrainConfig()), **dataclasses.asdict(AugmentConfig()), "augment": True}
    for name, (kind, text) in reversed(SETTINGS.items()):
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        default = defaults[name]
        shown = f"  [default: {default}]" if not (default is None or isinstance(default, bool)) else ""
        if isinstance(default, tuple):
            shown = f"  [default: {','.join(map(str, default))}]"
        declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        kind = None if kind is bool else kind
        command = click.option(declared, name, type=kind, default=None, help=text + shown)(command)
    return command


@click.command()
@click.argument("data", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder for the run; must be new.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run; begin one if there is none.")
@click.option("--skip-bad", is_flag=True, help="Go on without unreadable images.")
@click.option("--preview", is_flag=True, help="Only draw what augmentation does, beside --out, and stop.")
@click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard into the run.")
@click.option("--preset", type=click.Choice(tuple(PRESETS)), help="One of the lecture's own networks.")
@ray_option("Compute the frozen features")
@_setting_options
def train(data: Path, out: Path, preview: bool, preset: str | None, ray: str | None, **options: Any) -> None:
    """Train a classifier on DATA: a folder of class folders, or one with train/, val/ and test/ of them.

    With --ray the workers need edgecls[train]; images and the frozen network are sent to them, features come back.

    \b
    Examples:
      edgecls train photos --out run
      edgecls train photos --out run --image-size 128 --no-augment
      edgecls train photos --out run --unfreeze 3 --time-budget 20m
      edgecls train photos --out run --resume             after a crash or Ctrl-C
      edgecls train photos --out run --preview            look at the augmentation first
      edgecls train photos --out cnn --preset lecture-cnn-dropout
      edgecls train photos --out run --ray local          features on all CPUs, a process each
    Several machines train together if each has the same command and TensorFlow's TF_CONFIG in its environment.
    """
    settings = {name: options.pop(name) for name in SETTINGS}
    config = resolve(preset or "", {name: value for name, value in settings.items() if value is not None})
    cluster = None if preview else read_cluster(os.environ.get(VARIABLE, ""))
    load_tensorflow(begin=cluster is None)
    from edgecls.training import train as training

    if cluster is not None and cluster.index:
        return _assist(data, config, cluster, options["skip_bad"])
    with _say_how_to_resume(out), pool_at(ray) as pool, work_in(pool), LiveProgress() as progress:
        if preview:
            picture = out.with_name(f"{out.name}-preview.png")
            training.preview(data, config, picture, progress)
        else:
            result = training.train(data, out, config, cluster=cluster, progress=progress, **options)
    if preview:
        echo(picture)
        return
    if left_out := result.record.get("left_out"):
        echo(left_out, err=True)
    for warning in result.warnings:
        warn(warning)
    _print_run(result.record, out)
    print_findings(result.findings)
    echo(f"Next: edgecls export {out} --int8      or look at it: edgecls report {out}")


def _assist(data: Path, config: TrainConfig, cluster: Cluster, skip_bad: bool) -> None:
    from edgecls.training import train as training

    with LiveProgress() as progress:
        training.assist(data, config, cluster, skip_bad=skip_bad, progress=progress)
    echo(f"{cluster.name(cluster.index)} has done its part; {cluster.name(0)} keeps the run")


@contextlib.contextmanager
def _say_how_to_resume(out: Path) -> Iterator[None]:
    """Whatever ends the run before its time: if something was learned, say how to go on with it."""
    from edgecls.training.run.work_folder import has_checkpoint, work_folder

    try:
        yield
    except ConfigError:
        raise
    except BaseException:
        if has_checkpoint(work_folder(out)):
            arguments = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
            echo(f"\nNothing is lost. Go on with: {shlex.join(['edgecls', *arguments, '--resume'])}", err=True)
        raise


def _print_run(record: dict[str, Any], out: Path) -> None:
    metrics, source = record["metrics"], record["weights"]["source"]
    echo(f"classes     {some(record['classes'], SHOWN_CLASSES)}")
    echo(f"weights     {source}" + (f" (sha256 {record['weights']['sha256'][:12]})" if source != "none" else ""))
    for phase in record.get("phases", []):
        echo(
            f"phase       {phase['name']}: validation {phase['val_accuracy_before']:.4f} -> "
            f"{phase['val_accuracy_after']:.4f}, {phase['epochs']} epochs, {phase['seconds']:.0f} s ({phase['reason']})"
        )
    echo(f"validation  {metrics['val_accuracy']:.4f} accuracy")
    if metrics["test_accuracy"] is not None:
        echo(f"test        {metrics['test_accuracy']:.4f} accuracy")
    echo(f"macro F1    {metrics['macro_f1']:.4f}")
    echo(f"time        {record['seconds']:.0f} s")
