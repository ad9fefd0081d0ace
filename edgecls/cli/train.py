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
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.help_groups import GroupedCommand
from edgecls.cli.inspection import print_inspection
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, echo, load_tensorflow, print_findings, warn
from edgecls.config import AugmentConfig, TrainConfig
from edgecls.config.choices import ARCHS, EFFORTS, FLIPS, HEADS, SCHEDULES, SOLVERS, WEIGHT_SOURCES
from edgecls.errors import ConfigError
from edgecls.messages.lists import some
from edgecls.networks.presets import PRESETS, resolve
from edgecls.parallel.pool import work_in
from edgecls.training.distributed.cluster import VARIABLE, Cluster, read_cluster

if TYPE_CHECKING:
    from edgecls.training.train import TrainResult

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """Seconds, from text like 90, 90s, 5m or 1.5h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 90s, 5m or 1h", param, ctx)
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


class Sizes(click.ParamType):  # type: ignore[type-arg]
    """A tuple of whole numbers, from text like 128,64 or none."""

    name = "n,n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"none|\d+(,\d+)*", value):
            self.fail(f"{value!r} is not a list of sizes; write 128,64", param, ctx)
        return () if value == "none" else tuple(int(size) for size in value.split(","))


class Files(click.ParamType):  # type: ignore[type-arg]
    """A tuple of paths, from text like train.csv,test.csv."""

    name = "file,file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the paths; a file whose name has a comma is one path."""
        if isinstance(value, tuple):
            return value
        return (value,) if Path(value).is_file() else tuple(filter(None, value.split(",")))


# Group of the help -> setting -> (type, help). Defaults are in config/training.py.
GROUPS: dict[str, dict[str, tuple[Any, str]]] = {
    "Data": {
        "image_size": (int, "Side of the network's input in pixels."),
        "labels": (
            Files(),
            "Tables of the class of each image: CSV, Parquet, JSON lines, or path and label a line.",
        ),
        "columns": (str, "Columns of --labels: image=NAME,label=NAME,split=NAME,group=NAME, any of them."),
        "class_from": (str, "Regular expression that finds the class in each image's path."),
        "splits": (str, "Folders of the splits: train=FOLDER,val=FOLDER,test=FOLDER; none if all are classes."),
        "group": (str, "Keep images together: a regular expression for their paths, folder, or a table of groups."),
        "exclude": (str, "Table of images to leave out, such as that of edgecls audit --fix."),
        "good_class": (str, "The class that is no defect, to report missed defects and false alarms."),
        "bits": (int, "Bits used in 16-bit images that do not say it, 8 to 16.  [default: 16]"),
    },
    "Network": {
        "arch": (click.Choice(ARCHS), "Network architecture."),
        "alpha": (float, "Width multiplier of MobileNetV2."),
        "blocks": (int, "Blocks of MobileNetV2 to keep, 1 to 17.  [default: all, and the last 1x1 convolution]"),
        "head": (click.Choice(HEADS), "Layers that follow MobileNetV2."),
        "weights": (str, f"Pretrained weights: {', '.join(WEIGHT_SOURCES)} or a file."),
    },
    "Learning": {
        "solver": (
            click.Choice(SOLVERS),
            "How a linear classifier learns: its optimum, or in steps.  [default: lbfgs]",
        ),
        "epochs": (int, "Maximum epochs."),
        "batch_size": (int, "Images in each step."),
        "learning_rate": (float, "Initial learning rate.  [default: depends on the network]"),
        "patience": (int, "Stop a phase after this many epochs without a better validation loss."),
        "effort": (click.Choice(EFFORTS), "How long to fine-tune; best takes an hour or more.  [default: normal]"),
        "unfreeze": (int, "Fine-tune this many of MobileNetV2's last blocks, in place of --effort."),
        "joint": (bool, "After the classifier, train it together with the 1-to-3 convolution."),
        "fine_epochs": (int, "Maximum epochs of fine-tuning and --joint."),
        "fine_learning_rate": (float, "Learning rate of both.  [default: 1e-4, 3e-5 for the whole backbone]"),
        "time_budget_s": (Duration(), "Stop after this time with the best weights so far: 90s, 5m, 1h."),
    },
    "Regularization": {
        "dropout": (float, "Fraction of features dropped before the classifier."),
        "weight_decay": (float, "Weight decay of AdamW; 0 is off."),
        "l2": (float, "Factor of the squared weights in the loss; 0 is off."),
        "label_smoothing": (float, "Label smoothing; 0 is off."),
        "balance": (bool, "Weight each class by the inverse of its number of images."),
    },
    "Augmentation": {
        "augment": (bool, "Also train on randomly changed copies of the images."),
        "augmented_copies": (int, "Changed copies of each image."),
        "flip": (click.Choice(FLIPS), "Random mirroring."),
        "rotation": (float, "Largest rotation, as a fraction of a full turn; 0 is off."),
        "translation": (float, "Largest shift, as a fraction of the side; 0 is off."),
        "zoom": (float, "Largest zoom in or out, as a fraction; 0 is off."),
        "brightness": (float, "Largest change of brightness, as a fraction of white; 0 is off."),
        "contrast": (float, "Largest change of contrast, as a fraction; 0 is off."),
    },
    "Advanced": {
        "hidden": (Sizes(), "Units of dense layers before the classifier: 512, or 128,64."),
        "filters": (Sizes(), "cnn: filters of each convolution."),
        "batch_norm": (bool, "Batch normalization before the classifier."),
        "schedule": (click.Choice(SCHEDULES), "Learning rate schedule.  [default: depends on the network]"),
        "warmup_epochs": (int, "Epochs in which the learning rate rises."),
        "clip_norm": (float, "Largest norm of the gradients; 0 is off."),
        "seed": (int, "Random seed."),
    },
}
SETTINGS = {name: setting for group in GROUPS.values() for name, setting in group.items()}
# The other options of each group, before and after its settings.
FIRST = {"Data": ("out", "overwrite", "resume", "skip_bad"), "Network": ("preset",), "Augmentation": ("preview",)}
LAST = {"Advanced": ("tensorboard", "ray")}
SHOWN_CLASSES = 20


def _setting_options(command: Command) -> Command:
    """Add one option for each setting; an option that is not given stays None and leaves the preset's value."""
    defaults = {**dataclasses.asdict(TrainConfig()), **dataclasses.asdict(AugmentConfig()), "augment": True}
    for name, (kind, text) in SETTINGS.items():
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        default = defaults[name]
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        shown = "" if default in (None, "") or isinstance(default, bool) else f"  [default: {default}]"
        declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option = click.option(declared, name, type=None if kind is bool else kind, default=None, help=text + shown)
        command = option(command)
    # The former name of --augmented-copies.
    return click.option("--views", type=int, hidden=True)(command)


@click.command(
    cls=GroupedCommand,
    groups={title: (*FIRST.get(title, ()), *group, *LAST.get(title, ())) for title, group in GROUPS.items()},
)
@click.argument("data", type=PATH)
@click.option("--out", required=True, type=PATH, help="New folder for the run.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run, or start one if there is none.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--preview", is_flag=True, help="Only draw augmented copies, into a picture beside --out.")
@click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard into the run.")
@click.option("--preset", type=click.Choice(tuple(PRESETS)), help="A network of the university lecture behind edgecls.")
@ray_option("Compute the features of the backbone")
@_setting_options
def train(
    data: Path, out: Path, preview: bool, preset: str | None, ray: str | None, views: int | None, **options: Any
) -> None:
    """Train a classifier on DATA: a folder of class folders, or one with train/, val/ and test/ of them.

    \b
    Examples:
      edgecls train photos --out run
      edgecls train photos --out run --image-size 128 --no-augment
      edgecls train photos --out run --effort quick       ten times faster, often a point or two worse
      edgecls train photos --out run --resume             after a crash or Ctrl-C
      edgecls train photos --out run --preview            look at the augmentation first
      edgecls train photos --out cnn --preset lecture-cnn-dropout
      edgecls train photos --out run --ray local          features on all CPUs, a process each

    With --ray, the workers need edgecls[train]: they receive images and the backbone, and return features.

    To train on several machines, run the same command on each with TensorFlow's TF_CONFIG in its environment.
    """
    settings = {name: options.pop(name) for name in SETTINGS}
    if settings["augmented_copies"] is None:
        settings["augmented_copies"] = views
    config = resolve(preset or "", {name: value for name, value in settings.items() if value is not None})
    if preview:
        return _preview(data, config, out.with_name(f"{out.name}-preview.png"))
    cluster = read_cluster(os.environ.get(VARIABLE, ""))
    load_tensorflow(begin=cluster is None)
    if cluster is not None and cluster.index:
        return _assist(data, config, cluster, options["skip_bad"])
    _train(data, out, config, cluster, ray, options)


def _preview(data: Path, config: TrainConfig, picture: Path) -> None:
    load_tensorflow()
    from edgecls.report.pictures import PICTURES
    from edgecls.training.train import preview

    with LiveProgress() as progress:
        notes = preview(data, config, picture, PICTURES, progress)
    for note in notes:
        echo(note, err=True)
    echo(picture)


def _assist(data: Path, config: TrainConfig, cluster: Cluster, skip_bad: bool) -> None:
    from edgecls.training.train import assist

    with LiveProgress() as progress:
        assist(data, config, cluster, skip_bad=skip_bad, progress=progress)
    echo(f"{cluster.name(cluster.index)} has finished; {cluster.name(0)} holds the run.")


def _train(
    data: Path, out: Path, config: TrainConfig, cluster: Cluster | None, ray: str | None, options: dict[str, Any]
) -> None:
    from edgecls.report.pictures import PICTURES
    from edgecls.training import train as training

    with _explain_resume(out), pool_at(ray) as pool, work_in(pool), LiveProgress() as progress:
        result = training.train(data, out, config, cluster=cluster, pictures=PICTURES, progress=progress, **options)
    _print_result(result)
    _print_next(data, out, config)


def _print_result(result: TrainResult) -> None:
    from edgecls.training.effort import describe_next

    for note in result.record.get("layout", []):
        echo(note, err=True)
    if left_out := result.record.get("left_out"):
        echo(left_out, err=True)
    for warning in result.warnings:
        warn(warning)
    _print_run(result.record)
    print_findings(result.findings)
    if more := describe_next(result.record):
        echo(more)


def _print_next(data: Path, out: Path, config: TrainConfig) -> None:
    run = shlex.quote(str(out))
    echo(f"Next: edgecls export {run} --int8\n      edgecls report {run}")
    # A sweep reads class folders only.
    others = (config.blocks, config.labels, config.class_from, config.splits, config.group, config.exclude)
    if config.uses_backbone and not any(others):
        echo(f"Is a smaller network as accurate? This tries all depths: edgecls sweep {shlex.quote(str(data))}")


@contextlib.contextmanager
def _explain_resume(out: Path) -> Iterator[None]:
    """If training stops before its end and something was learned, print the command that resumes it."""
    from edgecls.training.run.work_folder import has_checkpoint, work_folder

    try:
        yield
    except ConfigError:
        raise
    except BaseException:
        if has_checkpoint(work_folder(out)):
            arguments = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
            echo(f"\nNothing is lost. Resume with: {shlex.join(['edgecls', *arguments, '--resume'])}", err=True)
        raise


def _print_run(record: dict[str, Any]) -> None:
    metrics, source = record["metrics"], record["weights"]["source"]
    echo(f"classes     {some(record['classes'], SHOWN_CLASSES)}")
    echo(f"weights     {source}" + (f" (sha256 {record['weights']['sha256'][:12]})" if source != "none" else ""))
    for phase in record.get("phases", []):
        best = f"best of {phase['epochs']} epochs" if phase["kept"] else f"discarded after {phase['epochs']} epochs"
        if phase.get("solver") == "lbfgs":
            best = "solved" if phase["kept"] else "discarded"
        blocks = f"{phase['unfreeze']} blocks, " if phase.get("unfreeze") else ""
        accuracy = f"{100 * phase['val_accuracy_after']:.1f} %"
        echo(f"{phase['name']}: validation accuracy {accuracy} ({blocks}{best}, {phase['seconds']:.0f} s)")
    echo(f"validation  {100 * metrics['val_accuracy']:.2f} % accuracy")
    if metrics["test_accuracy"] is not None:
        echo(f"test        {100 * metrics['test_accuracy']:.2f} % accuracy")
    echo(f"macro F1    {metrics['macro_f1']:.4f}")
    if text := metrics.get("confusions"):
        echo(f"confusions  {text}")
    if inspection := metrics.get("inspection"):
        print_inspection(inspection)
    echo(f"time        {record['seconds']:.0f} s")
