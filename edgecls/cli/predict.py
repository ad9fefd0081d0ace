"""edgecls predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, print_json

if TYPE_CHECKING:
    from edgecls.runtime.classifier import Prediction


@click.command()
@click.argument("file", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Labels shown for each image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def predict(file: Path, images: tuple[Path, ...], top_k: int, as_json: bool) -> None:
    """Classify IMAGES with an exported FILE. Goes on past an unreadable image, and then exits with 1.

    \b
    Example:
      edgecls predict run/export/model-int8.tflite a.png b.jpg --top-k 3
    """
    from edgecls.errors import DataError
    from edgecls.runtime.classifier import load

    classifier = load(file)
    found: list[dict[str, Any]] = []
    failed = 0
    for image in images:
        try:
            prediction = classifier.predict(image)
        except DataError as error:
            failed += 1
            click.secho(f"Error: {error}", fg="red", err=True)
            continue
        if as_json:
            found.append(_prediction_json(image, prediction, classifier.spec.labels))
        else:
            # Stable, so that of equal scores the first wins, as in Prediction.label.
            best = (-prediction.scores).argsort(kind="stable")[:top_k]
            ranked = ", ".join(f"{classifier.spec.labels[i]} {prediction.scores[i]:.4f}" for i in best)
            click.echo(f"{click.format_filename(image)}: {ranked}")
    if as_json:
        print_json(found)
    if failed:
        raise click.ClickException(f"{failed} of {len(images)} images could not be read")


def _prediction_json(image: Path, prediction: Prediction, labels: tuple[str, ...]) -> dict[str, Any]:
    scores = {label: round(float(score), 6) for label, score in zip(labels, prediction.scores, strict=True)}
    best = {"label": prediction.label, "index": prediction.index, "score": round(prediction.score, 6)}
    return {"image": str(image), **best, "scores": scores}
