"""edgecls evaluate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.data_options import SCORED_LAYOUT, data_options, report_note, to_layout
from edgecls.cli.inspection import limit_options, print_inspection
from edgecls.cli.option_types import OutputFile
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, counting_left_out, device_option, echo, print_json, untrusted_option, warn
from edgecls.messages.lists import some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecls.evaluate import Evaluation
    from edgecls.images.layout import Layout
    from edgecls.model_file.metadata import ModelSpec

    Scored = tuple[Sequence[str], NDArray[np.int64], NDArray[np.float32], str]  # paths, true classes, scores, split


@click.command()
@click.argument("file", type=PATH)
@click.argument("data", type=PATH, nargs=-1, required=True)
@data_options(SCORED_LAYOUT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@limit_options
@click.option(
    "--mistakes",
    type=OutputFile("CSV"),
    metavar="CSV",
    help="Also write a table of the incorrect predictions, by name.",
)
@device_option
@untrusted_option
@ray_option("Score")
def evaluate(file: Path, data: tuple[Path, ...], as_json: bool, mistakes: Path | None, **options: Any) -> None:
    """Measure the accuracy of an exported FILE on the class folders in each DATA, or on DATA/test if it exists.

    FILE runs in its own runtime. With --ray the workers need edgecls, and DATA under the same path; the results are
    the same.

    Accuracy, recall, precision and F1 are those of the highest score. If FILE names a good class, missed defects and
    false alarms are those of its threshold, as in predict. Another threshold (--max-missed, --max-false-alarms) is
    chosen on the validation scores that FILE holds, and is not stored: export does that.

    \b
    Examples:
      edgecls evaluate run/export/model-int8.tflite photos --json
      edgecls evaluate run/export/model-int8.tflite photos --good-class free --max-missed 0.01
      edgecls evaluate run/export/model-int8_edgetpu.tflite photos --device edgetpu
      edgecls evaluate run/export/model-int8.tflite photos --ray local
    """
    from edgecls.evaluate import score, write_mistakes
    from edgecls.inspection import inspect_file, make_limit
    from edgecls.model_file.read import read_spec

    spec, ray = read_spec(file), options.pop("ray")
    how = {name: options.pop(name) for name in ("device", "untrusted")}
    layout = to_layout({name: options.pop(name) for name in SCORED_LAYOUT})
    # Before the images are read, which may take minutes.
    judge = inspect_file(spec, options.pop("good_class"), make_limit(**options))
    paths, labels, scores, splits = _score_each(data, lambda folder: _score(file, spec, folder, layout, how, ray))
    result = score(scores, labels, spec.labels)
    inspection = judge(scores, labels) if judge else None
    _warn_of_missing(result.missing_classes, data)
    if mistakes:
        write_mistakes(mistakes, paths, labels, spec.labels, scores)
    if as_json:
        more = {"splits": splits} | ({"inspection": inspection} if inspection else {})
        print_json({"file": str(file)} | result.to_json() | more)
        return
    _print_evaluation(result, inspection, mistakes)


def _score_each(
    data: Sequence[Path], score: Callable[[Path], Scored]
) -> tuple[Sequence[str], NDArray[np.int64], NDArray[np.float32], dict[str, str]]:
    """Return what `score` returns for all folders together; of several, the paths begin with the folder.

    The last value says which images of each folder are scored: "test", "val" or "all".
    """
    import numpy as np

    from edgecls.images.assign import find_common
    from edgecls.images.folders import check_root

    if len(data) == 1:
        paths, labels, scores, split = score(data[0])
        return paths, labels, scores, {str(data[0]): split}
    roots = [check_root(folder) for folder in data]
    find_common(roots)
    found = [score(root) for root in roots]
    named = [str(root / path) for root, (paths, *_) in zip(roots, found, strict=True) for path in paths]
    splits = {str(folder): split for folder, (*_, split) in zip(data, found, strict=True)}
    return named, np.concatenate([each[1] for each in found]), np.concatenate([each[2] for each in found]), splits


def _warn_of_missing(classes: Sequence[str], data: Sequence[Path]) -> None:
    if classes:
        warn(
            f"{some(data)} has no image of {some(classes)}, so the accuracy does not cover that; macro F1 is the mean "
            "of the other classes"
        )


def _score(file: Path, spec: ModelSpec, data: Path, layout: Layout, how: Mapping[str, Any], ray: str | None) -> Scored:
    """Return the scores of a folder's images; `how` are arguments of `load`."""
    from edgecls.images.folders import check_root
    from edgecls.training.run.run_folder import describe_learned

    if ray is None:
        scored = _score_local(file, spec, data, layout, how)
    else:
        scored = _score_on_ray(file, data, layout, how, ray)
    if learned := describe_learned(file, check_root(data), scored[0]):
        warn(learned)
    return scored


def _score_local(file: Path, spec: ModelSpec, data: Path, layout: Layout, how: Mapping[str, Any]) -> Scored:
    from edgecls.evaluate import score_images
    from edgecls.images.dataset import load_paths
    from edgecls.images.depth import warn_of_nearly_black
    from edgecls.images.layout import list_scored
    from edgecls.runtime.classifier import load

    classifier = load(file, **how)
    with counting_left_out() as left_out, LiveProgress() as bars:
        report = functools.partial(bars, "read images")
        found = list_scored(data, spec.labels, layout, left_out)
        for note in found.notes:
            report_note(note)
        paths, labels = zip(*found.samples, strict=True)
        size = spec.height, spec.width
        split = load_paths(data, paths, labels, *size, preprocessing=spec.preprocessing, progress=report)
        warn_of_nearly_black(split.scales)
        scores = score_images(classifier, split.images, functools.partial(bars, "score images"))
        return split.paths, split.labels, scores, found.split


def _score_on_ray(file: Path, data: Path, layout: Layout, how: Mapping[str, Any], address: str) -> Scored:
    import numpy as np

    from edgecls.bulk.evaluate import score_all
    from edgecls.bulk.model import pack_model
    from edgecls.model_file.read import read_bytes

    contents = read_bytes(file)
    with pool_at(address) as pool, counting_left_out() as left_out, LiveProgress() as bars:
        model = pack_model(contents, pool, **how)
        report = functools.partial(bars, "score images")
        found, scores = score_all(
            model, data, pool, layout=layout, left_out=left_out, report=report_note, progress=report
        )
    paths, labels = zip(*found.samples, strict=True)
    return paths, np.array(labels, np.int64), scores, found.split


def _print_evaluation(result: Evaluation, inspection: dict[str, Any] | None, mistakes: Path | None) -> None:
    from edgecls.evaluate import describe_confusions

    echo(
        f"images {result.images}  accuracy {result.accuracy:.4f}  macro F1 {result.macro_f1:.4f}  ECE {result.ece:.4f}"
    )
    columns = "".join(f"  {name + ' (95 %)':15}" for name in ("recall", "precision", "F1"))
    echo(f"{'class':16} {'images':>6}{columns}".rstrip())
    for label, metrics in result.per_class.items():
        precision = metrics.precision if metrics.precision_interval else None
        pairs = (
            (metrics.recall, metrics.recall_interval),
            (precision, metrics.precision_interval),
            (metrics.f1, metrics.f1_interval),
        )
        shown = (f"{value:.3f} {ends[0]:.2f}-{ends[1]:.2f}" if ends else "-" for value, ends in pairs)
        echo(f"{label:16} {metrics.support:6}{''.join(f'  {text:15}' for text in shown)}".rstrip())
    if text := describe_confusions(result, inspection["good_class"] if inspection else ""):
        echo(text)
    if inspection:
        print_inspection(inspection)
    if mistakes:
        echo(f"Incorrect predictions: {mistakes}")
