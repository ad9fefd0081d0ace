"""edgecls predict."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, print_json
from edgecls.runtime.engines import ALIASES, DEVICES, ENGINES

if TYPE_CHECKING:
    from edgecls.runtime.classifier import Prediction

STDIN = Path("-")


@click.command()
@click.argument("file", type=PATH)
@click.argument("images", nargs=-1, type=PATH)
@click.option("--watch", type=PATH, metavar="DIR", help="Then wait for images that appear or change in DIR.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Labels shown as text.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Reject lower scores.  [default: the file's own]")
@click.option("--format", "form", type=click.Choice(["text", "jsonl", "csv"]), help="Of stdout.  [default: text]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, at the end.")
@click.option("--engine", type=click.Choice([*ENGINES, *ALIASES]), help="[default: the first that fits]")
@click.option("--threads", type=click.IntRange(min=1), help="[default: the big cores, at most 4]")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)
def predict(
    file: Path,
    images: tuple[Path, ...],
    watch: Path | None,
    top_k: int,
    form: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Classify IMAGES with an exported FILE: files, folders, quoted patterns, or - for one image on stdin.

    Goes on past an unreadable image, and then exits with 1. A rejected image has no label.

    \b
    Examples:
      edgecls predict run/export/model-int8.tflite a.png b.jpg --top-k 3
      edgecls predict model-int8.tflite photos 'more/*.png' --format csv > labels.csv
      edgecls predict model-int8.tflite --watch inbox --format jsonl --threshold 0.8
    """
    from edgecls.errors import DataError
    from edgecls.runtime.classifier import load

    _check_usage(images, watch, form, as_json)
    found: list[dict[str, Any]] = []
    done = failed = 0
    with load(file, **settings) as classifier:
        labels = classifier.spec.labels
        if form == "csv":
            _write_csv("image", "label", "index", "score", *(f"scores.{label}" for label in labels))
        for source, prediction in _until_stopped(classifier.predict_iter(_sources(images, watch)), watch):
            done += 1
            name = "-" if isinstance(source, bytes) else str(source)
            if isinstance(prediction, DataError):
                failed += 1
                click.secho(f"Error: {prediction}", fg="red", err=True)
            elif as_json:
                found.append(_prediction_json(name, prediction, labels))
            else:
                _write(form, name, prediction, labels, top_k)
    if as_json:
        print_json(found)
    if failed:
        raise click.ClickException(f"{failed} of {done} images could not be read")


def _check_usage(images: tuple[Path, ...], watch: Path | None, form: str | None, as_json: bool) -> None:
    if not images and watch is None:
        raise click.UsageError("Missing argument 'IMAGES...', or --watch DIR.")
    if as_json and (form or watch):
        raise click.UsageError("--json is one document at the end; --format jsonl is one for each image.")


def _sources(images: tuple[Path, ...], watch: Path | None) -> Iterator[Path | bytes]:
    """Return an iterator over the images; those that appear in the watched folder from now on come last."""
    from edgecls.runtime.sources import find_images, watch_folder

    # Begun before the first image is read, so that none falls between.
    appearing: Iterator[Path] = watch_folder(watch) if watch else iter(())

    def read() -> Iterator[Path | bytes]:
        for path in images:
            if path == STDIN:
                yield sys.stdin.buffer.read()
            else:
                yield from find_images(path)
        yield from appearing

    return read()


def _until_stopped(predictions: Iterator[Any], watch: Path | None) -> Iterator[Any]:
    try:
        yield from predictions
    except KeyboardInterrupt:
        # The way to end a watch; without one, what is written is no whole result.
        if watch is None:
            raise


def _write(form: str | None, name: str, prediction: Prediction, labels: tuple[str, ...], top_k: int) -> None:
    if form == "jsonl":
        # ASCII alone, as in `print_json`.
        click.echo(json.dumps(_prediction_json(name, prediction, labels)))
        return
    name = click.format_filename(name)
    if form == "csv":
        scores = [f"{value:.6f}" for value in (prediction.score, *prediction.scores)]
        _write_csv(name, prediction.label or "", prediction.index, *scores)
        return
    # Stable, so that of equal scores the first wins, as in Prediction.label.
    best = (-prediction.scores).argsort(kind="stable")[:top_k]
    ranked = ", ".join(f"{labels[i]} {prediction.scores[i]:.4f}" for i in best)
    click.echo(f"{name}: {ranked}{' (rejected)' if prediction.label is None else ''}")


def _write_csv(*values: object) -> None:
    import csv
    import io

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    click.echo(line.getvalue())


def _prediction_json(name: str, prediction: Prediction, labels: tuple[str, ...]) -> dict[str, Any]:
    scores = {label: round(float(score), 6) for label, score in zip(labels, prediction.scores, strict=True)}
    best = {"label": prediction.label, "index": prediction.index, "score": round(prediction.score, 6)}
    return {"image": name, **best, "scores": scores}
