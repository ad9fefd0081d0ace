"""edgecls compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.data_options import SCORED_LAYOUT, data_options, report_note, to_layout
from edgecls.cli.option_types import OutputFile
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, counting_left_out, echo, print_json, untrusted_option, warn
from edgecls.messages.lists import counted, some
from edgecls.messages.numbers import percent
from edgecls.messages.path_kinds import RUN_FILE

if TYPE_CHECKING:
    from edgecls.compare import ModelComparison


@click.command()
@click.argument("new", type=PATH)
@click.argument("old", type=PATH)
@click.argument("data", type=PATH, nargs=-1, required=True)
@data_options(SCORED_LAYOUT)
@click.option(
    "--html", type=OutputFile("HTML"), metavar="FILE", help="Write a page with the images whose result changed."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@untrusted_option
def compare(
    new: Path, old: Path, data: tuple[Path, ...], html: Path | None, as_json: bool, untrusted: bool, **layout: Any
) -> None:
    """Compare a NEW exported file with an OLD one on the class folders in DATA, or on DATA/test if it exists.

    Each file runs in its own runtime and labels the images with its own threshold. The exit status is 1 if NEW is
    significantly worse (exact McNemar test of the images that only one of them labels correctly, p < 0.05).

    Use images that neither file was trained on. If DATA is a run folder, those are its test images; the images of its
    first folder are not in the training images of an older run of that folder either.

    \b
    Examples:
      edgecls compare run2/export/model-int8.tflite run/export/model-int8.tflite run2
      edgecls compare new.tflite old.onnx photos board-photos --html changes.html
      edgecls compare new.tflite old.tflite photos --json && scp new.tflite pi@raspberrypi.local:
    """
    result = _compare(new, old, data, untrusted, layout)
    _warn_of_learned((new, old), result)
    if missing := result.new.missing_classes:
        warn(f"DATA has no image of {some(missing)}, so the verdict does not cover that")
    if html is not None:
        from edgecls.report.flips import write_flips

        write_flips(html, result, new, old)
    if as_json:
        print_json({"new": str(new), "old": str(old)} | result.to_json())
    else:
        _print_comparison(result)
        if html is not None:
            echo(f"Images whose result changed: {html}")
    if result.worse_classes and result.verdict != "worse":
        warn(f"{some(result.worse_classes)} got significantly worse, although all classes together did not")
    if result.verdict == "worse":
        raise click.exceptions.Exit(1)


def _warn_of_learned(files: tuple[Path, Path], result: ModelComparison) -> None:
    from edgecls.training.run.run_folder import describe_learned

    for file in dict.fromkeys(files):
        for folder, paths in result.images.items():
            if learned := describe_learned(file, folder, paths):
                warn(learned)


def _compare(new: Path, old: Path, data: tuple[Path, ...], untrusted: bool, layout: dict[str, Any]) -> ModelComparison:
    from edgecls.compare import compare_files, describe_unknown
    from edgecls.runtime.classifier import load

    folders = [_find_held_out(folder, layout) if (folder / RUN_FILE).is_file() else folder for folder in data]
    with load(new, untrusted=untrusted) as new_classifier, load(old, untrusted=untrusted) as old_classifier:
        for sentence in describe_unknown(new_classifier, old_classifier):
            warn(sentence)
        with counting_left_out() as left_out, LiveProgress() as bars:
            return compare_files(
                *(new_classifier, old_classifier, folders),
                layout=to_layout(layout),
                left_out=left_out,
                report=report_note,
                progress=bars,
            )


def _find_held_out(run: Path, layout: dict[str, Any]) -> tuple[Path, dict[str, list[str]]]:
    """Return the folder of images of a run, and its held-out images by class."""
    from edgecls.training.run.run_folder import read_record

    if given := [name for name, value in layout.items() if value is not None]:
        raise click.UsageError(
            f"{run} is a run folder, which lists its images; leave out --{given[0].replace('_', '-')}"
        )
    record = read_record(run)
    part, root = record["held_out"]["split"], Path(record["data"])
    groups: dict[str, list[str]] = record["split"][part]
    report_note(f"{run} is a run: its {sum(map(len, groups.values())):,} {part} images in {root} are compared.")
    return root, groups


def _print_comparison(result: ModelComparison) -> None:
    new, old = result.new, result.old
    echo(f"{'class':24} {'images':>7} {'old':>10} {'new':>10}")
    for label, metrics in new.per_class.items():
        before, after = old.per_class[label].recall, metrics.recall
        # A class without images has none.
        if before is not None and after is not None:
            echo(f"{label:24} {metrics.support:7} {percent(before, 2):>10} {percent(after, 2):>10}")
    echo(f"{'all images (accuracy)':24} {new.images:7} {percent(old.accuracy, 2):>10} {percent(new.accuracy, 2):>10}")
    echo(f"{'macro F1':32} {old.macro_f1:10.4f} {new.macro_f1:10.4f}")
    echo(
        f"\n{result.verdict}: {counted(result.fixed, 'image')} fixed, {result.broken} broken, p = {result.p_value:.2g}"
    )
    if result.verdict == "not worse":
        echo(_limits(result))


def _limits(result: ModelComparison) -> str:
    """Return which loss this verdict would not have noticed."""
    least = result.least_broken
    text = f"With {result.fixed} fixed, the verdict is worse from {counted(least, 'broken image')} on"
    if least > round(result.old.accuracy * result.old.images):
        return f"{text}: {counted(result.new.images, 'image is', 'images are')} too few to find a loss; use more."
    loss = (least - result.fixed) / result.new.images
    return f"{text}, a loss of {loss * 100:.1f} points; it does not show that there is no smaller loss."
