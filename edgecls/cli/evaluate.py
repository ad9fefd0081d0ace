"""edgecls evaluate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, counting_left_out, echo, print_json, untrusted_option, warn
from edgecls.messages.lists import some

if TYPE_CHECKING:
    from edgecls.evaluate import Evaluation


@click.command()
@click.argument("file", type=PATH)
@click.argument("data", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@untrusted_option
@ray_option("Score")
def evaluate(file: Path, data: Path, as_json: bool, untrusted: bool, ray: str | None) -> None:
    """Measure the accuracy of an exported FILE on the class folders in DATA, or on DATA/test if it exists.

    FILE runs in its own runtime. With --ray the workers need edgecls, and DATA under the same path; the results are
    the same.

    \b
    Examples:
      edgecls evaluate run/export/model-int8.tflite photos --json
      edgecls evaluate run/export/model-int8.tflite photos --ray local
    """
    result = _evaluate_local(file, data, untrusted) if ray is None else _evaluate_on_ray(file, data, untrusted, ray)
    if result.missing_classes:
        warn(
            f"{data} has no image of {some(result.missing_classes)}, so the accuracy does not cover that; macro F1 is "
            "the mean of the other classes"
        )
    if as_json:
        print_json({"file": str(file)} | result.to_json())
    else:
        _print_evaluation(result)


def _evaluate_local(file: Path, data: Path, untrusted: bool) -> Evaluation:
    from edgecls.evaluate import evaluate as score_file
    from edgecls.images.dataset import load_labeled
    from edgecls.runtime.classifier import load

    classifier = load(file, untrusted=untrusted)
    spec = classifier.spec
    with counting_left_out() as left_out, LiveProgress() as bars:
        report = functools.partial(bars, "read images")
        size = spec.height, spec.width
        split = load_labeled(data, spec.labels, *size, bits=spec.bits, left_out=left_out, progress=report)
        return score_file(classifier, split.images, split.labels, progress=lambda *n: bars("score images", *n))


def _evaluate_on_ray(file: Path, data: Path, untrusted: bool, address: str) -> Evaluation:
    from edgecls.bulk.evaluate import evaluate_all
    from edgecls.bulk.model import pack_model
    from edgecls.model_file.read import read_bytes

    contents = read_bytes(file)
    with pool_at(address) as pool, counting_left_out() as left_out, LiveProgress() as bars:
        model = pack_model(contents, pool, untrusted=untrusted)
        return evaluate_all(model, data, pool, left_out=left_out, progress=functools.partial(bars, "score images"))


def _print_evaluation(result: Evaluation) -> None:
    echo(
        f"images {result.images}  accuracy {result.accuracy:.4f}  macro F1 {result.macro_f1:.4f}  ECE {result.ece:.4f}"
    )
    echo(f"{'class':24} {'recall':>8} {'precision':>10} {'images':>7}")
    for label, metrics in result.per_class.items():
        recall = "-" if metrics.recall is None else f"{metrics.recall:.4f}"
        echo(f"{label:24} {recall:>8} {metrics.precision:10.4f} {metrics.support:7}")
