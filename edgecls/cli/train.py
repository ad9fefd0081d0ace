"""edgecls train."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.data_options import more_data, with_usual_size
from edgecls.cli.help_groups import GroupedCommand
from edgecls.cli.inspection import print_inspection
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, echo, load_tensorflow, print_findings, warn
from edgecls.cli.train_options import FIRST, GROUPS, LAST, SETTINGS, setting_options, warn_of_other_archs
from edgecls.config import TrainConfig
from edgecls.config.choices import ALL_BLOCKS, BLOCKS
from edgecls.errors import ConfigError
from edgecls.messages.lists import counted, some
from edgecls.messages.numbers import percent
from edgecls.networks.presets import PRESETS, resolve
from edgecls.parallel.pool import work_in
from edgecls.training.distributed.cluster import VARIABLE, Cluster, read_cluster

if TYPE_CHECKING:
    from edgecls.training.train import TrainResult

SHOWN_CLASSES = 20


@click.command(
    cls=GroupedCommand,
    groups={title: (*FIRST.get(title, ()), *group, *LAST.get(title, ())) for title, group in GROUPS.items()},
)
@click.argument("data", type=PATH, nargs=-1, required=True)
@click.option("--out", required=True, type=PATH, help="New folder for the run.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is already there.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run, or start one if there is none.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--preview", is_flag=True, help="Only draw augmented copies, into a picture beside --out.")
@click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard into the run.")
@click.option("--preset", type=click.Choice(tuple(PRESETS)), help="A network of the university lecture behind edgecls.")
@ray_option("Compute the features of the backbone")
@setting_options
def train(
    data: tuple[Path, ...],
    out: Path,
    preview: bool,
    preset: str | None,
    ray: str | None,
    views: int | None,
    **options: Any,
) -> None:
    """Train a classifier on DATA: a folder of class folders, or one with train/, val/ and test/ of them.

    With several DATA, classes are united by name. The first is split as it is alone; the others are split by time.

    \b
    Examples:
      edgecls train photos --out run
      edgecls train photos --out run --image-size 128 --no-augment
      edgecls train photos --out run --effort quick       several times faster, sometimes a point or two worse
      edgecls train photos --out run --resume             after a crash or Ctrl-C
      edgecls train photos --out run --preview            look at the augmentation first
      edgecls train photos --out cnn --preset lecture-cnn-dropout
      edgecls train photos board-photos --out run2        with images that --collect kept, after labeling
      edgecls train photos --out run --ray local          features on all CPUs, a process each

    With --ray, the workers need edgecls[train]: they receive images and the backbone, and return features.

    To train on several machines, run the same command on each with TensorFlow's TF_CONFIG in its environment.
    """
    settings = {name: options.pop(name) for name in SETTINGS}
    if settings["augmented_copies"] is None:
        settings["augmented_copies"] = views
    settings["more_data"] = more_data(data)
    config = _configure(data[0], preset or "", {name: value for name, value in settings.items() if value is not None})
    if preview:
        return _preview(data[0], config, out.with_name(f"{out.name}-preview.png"))
    cluster = read_cluster(os.environ.get(VARIABLE, ""))
    load_tensorflow(begin=cluster is None)
    if cluster is not None and cluster.index:
        return _assist(data[0], config, cluster, options["skip_bad"])
    _train(data[0], out, config, cluster, ray, options)


def _configure(data: Path, preset: str, given: dict[str, Any]) -> TrainConfig:
    config = resolve(preset, given)
    warn_of_other_archs(given, (config.arch,))
    return config if preset else with_usual_size(data, config, given)


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
    from edgecls.report.settings import data_arguments

    run = shlex.quote(str(out))
    echo(f"Next: edgecls export {run} --int8\n      edgecls report {run}")
    if config.uses_backbone and not config.blocks:
        command = shlex.join(["edgecls", "sweep", str(data), *config.more_data, *data_arguments(config)])
        echo(f"Is a smaller network as accurate? This tries shorter ones and smaller images: {command}")


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


def _print_network(record: dict[str, Any]) -> None:
    source, accuracies = record["weights"]["source"], record.get("depth_accuracies")
    echo(f"weights     {source}" + (f" (sha256 {record['weights']['sha256'][:12]})" if source != "none" else ""))
    if not accuracies:
        return
    blocks, whole = record["config"]["blocks"], percent(accuracies[ALL_BLOCKS])
    if blocks is None:
        echo(f"network     all blocks: they label {whole} of the training images correctly, fewer blocks label less")
        return
    chosen = accuracies[str(blocks)]
    chance = ", which may be chance" if accuracies[ALL_BLOCKS] > chosen else ""
    echo(
        f"network     the first {blocks} of {BLOCKS} blocks: they label {percent(chosen)} of the training images "
        f"correctly, all blocks {whole}{chance} (--blocks all keeps them)"
    )


def _print_run(record: dict[str, Any]) -> None:
    metrics = record["metrics"]
    echo(f"classes     {some(record['classes'], SHOWN_CLASSES)}")
    _print_network(record)
    for phase in record.get("phases", []):
        best = ("best of " if phase["kept"] else "discarded after ") + counted(phase["epochs"], "epoch")
        if phase.get("solver") == "lbfgs":
            best = "solved" if phase["kept"] else "discarded"
        blocks = f"{counted(phase['unfreeze'], 'block')}, " if phase.get("unfreeze") else ""
        accuracy = percent(phase["val_accuracy_after"])
        echo(f"{phase['name']}: validation accuracy {accuracy} ({blocks}{best}, {phase['seconds']:.0f} s)")
    if (errors := record.get("flip_errors")) and record["config"]["augment"]["flip"] == "none":
        echo(
            "copies      not mirrored: mirrored ones raise the squared error of unseen training images from "
            f"{errors['none']:.3f} to {errors['horizontal']:.3f} (--flip horizontal mirrors)"
        )
    before = ""
    if images := record.get("refit_images"):
        echo(f"refit: the classifier was solved again for {images:,} images, training and validation images together")
        before = ", before the refit"
    echo(f"validation  {percent(metrics['val_accuracy'], 2)} accuracy{before}")
    if metrics["test_accuracy"] is not None:
        echo(f"test        {percent(metrics['test_accuracy'], 2)} accuracy")
    echo(f"macro F1    {metrics['macro_f1']:.4f}")
    if text := metrics.get("confusions"):
        echo(f"confusions  {text}")
    if inspection := metrics.get("inspection"):
        print_inspection(inspection)
    echo(f"time        {record['seconds']:.0f} s")
