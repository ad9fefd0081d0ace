"""edgecls evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecls.cli.terminal import PATH, ProgressBars, print_json, untrusted_option

if TYPE_CHECKING:
    from edgecls.evaluate import Evaluation


@click.command()
@click.argument("file", type=PATH)
@click.argument("data", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@untrusted_option
def evaluate(file: Path, data: Path, as_json: bool, untrusted: bool) -> None:
    """Score an exported FILE in its own runtime on the class folders in DATA (its test/ if it has one).

    \b
    Example:
      edgecls evaluate run/export/model-int8.tflite photos --json
    """
    from edgecls.data import load_labelled
    from edgecls.evaluate import evaluate as score_file
    from edgecls.runtime.classifier import load

    classifier = load(file, untrusted=untrusted)
    spec = classifier.spec
    with ProgressBars() as bars:
        split = load_labelled(data, spec.labels, spec.height, spec.width, progress=lambda *n: bars("read images", *n))
        result = score_file(classifier, split.images, split.labels, progress=lambda *n: bars("score images", *n))
    if as_json:
        print_json({"file": str(file)} | result.to_json())
    else:
        _print_evaluation(result)


def _print_evaluation(result: Evaluation) -> None:
    click.echo(
        f"images {result.images}  accuracy {result.accuracy:.4f}  macro F1 {result.macro_f1:.4f}  ECE {result.ece:.4f}"
    )
    click.echo(f"{'class':24} {'recall':>8} {'precision':>10} {'images':>7}")
    for label, metrics in result.per_class.items():
        click.echo(f"{label:24} {metrics.recall:8.4f} {metrics.precision:10.4f} {metrics.support:7}")
