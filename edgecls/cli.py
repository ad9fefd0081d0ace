"""The command line. The only module that prints, exits or imports click; every body is a few lines.

Heavy modules are imported inside the commands that need them, so that `edgecls predict` starts fast and works where
TensorFlow is not installed.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecls import __version__
from edgecls.config import FLIPS, FORMATS, HEADS, WEIGHT_SOURCES, AugmentConfig, ExportConfig, TrainConfig
from edgecls.errors import ConfigError, EdgeclsError, MissingDependency

if TYPE_CHECKING:
    from edgecls.evaluate import Evaluation
    from edgecls.export.artifact import ExportResult
    from edgecls.runtime.classifier import Prediction

Command = TypeVar("Command", bound=Callable[..., Any])
# Faults of the user's machine, not of our code: they deserve a sentence, not a traceback.
MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class _Group(click.Group):
    """Turns our errors into a message and an exit code, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except EdgeclsError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno in MACHINE_FAULTS:
                raise click.ClickException(f"{error.strerror}: {error.filename or 'while writing'}") from error
            raise


class _ProgressBars:
    """Shows one bar a stage on stderr; on anything but a terminal, one line a stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._done = 0
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._done = stage, 0
            self._bar = click.progressbar(length=total, label=f"{stage:32}", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(done - self._done)
        self._done = done

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __enter__(self) -> _ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _existing(**kwargs: Any) -> click.Path:
    return click.Path(path_type=Path, **kwargs)


def _warn(text: str) -> None:
    click.secho(f"Warning: {text}", fg="yellow", err=True)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _load_tensorflow() -> None:
    """Import TensorFlow without its chatter, or say how to get it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise MissingDependency("this command needs TensorFlow: pip install 'edgecls[train]'")
    from edgecls.quiet import quietly

    with quietly("import of TensorFlow"):
        import tensorflow as tf

        # The first operation starts the rest of TensorFlow, which chatters too.
        tf.zeros(1)
        tf.get_logger().setLevel("ERROR")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgecls")
def main() -> None:
    """Train a grayscale image classifier, export it to small int8 files, run them anywhere.

    \b
    Examples:
      edgecls demo                                  everything once, on images that come with edgecls
      edgecls train photos --out run                photos/ holds one folder of images for each class
      edgecls export run --int8                     writes run/export/model-int8.tflite and .onnx
      edgecls predict run/export/model-int8.tflite part.png
    """


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


@main.command()
@click.argument("data", type=_existing())
@click.option("--out", required=True, type=_existing(), help="Folder for the run; must be new.")
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
    _load_tensorflow()
    from edgecls.training.train import train as train_run

    with _ProgressBars() as bars:
        result = train_run(data, out, config, skip_bad=skip_bad, overwrite=overwrite, progress=bars)
    for warning in result.warnings:
        _warn(warning)
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


@main.command()
@click.argument("run", type=_existing())
@click.option("--int8", "int8", is_flag=True, help="Full integer: smallest and fastest.")
@click.option("--fp32", "fp32", is_flag=True, help="Float; the default if no precision is named.")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Default: all.")
@click.option(
    "--max-drop", type=float, default=ExportConfig.max_drop, show_default=True, help="Accuracy a file may lose."
)
@click.option("--out", type=_existing(), help="Folder for the files. Default: RUN/export.")
@click.option("--data", type=_existing(), help="The run's images, if they moved.")
def export(run: Path, int8: bool, fp32: bool, formats: tuple[Any, ...], max_drop: float, **places: Path | None) -> None:
    """Write RUN's model as TFLite and ONNX files, and score each file on images it never saw.

    Exits with 1 if a file lost more accuracy than --max-drop; it is then named NAME.rejected.SUFFIX.

    \b
    Examples:
      edgecls export run --int8
      edgecls export run --int8 --fp32 --format tflite --out files
    """
    precisions = tuple(name for name, wanted in (("fp32", fp32), ("int8", int8)) if wanted)
    config = ExportConfig(precisions=precisions or ("fp32",), formats=formats or FORMATS, max_drop=max_drop)
    _load_tensorflow()
    from edgecls.export.artifact import export_run

    with _ProgressBars() as bars:
        result = export_run(run, config, out=places["out"], data=places["data"], progress=bars)
    _print_export(result)
    _check_gate(result, max_drop)


def _print_export(result: ExportResult) -> None:
    click.echo(f"{'file':30} {'bytes':>10} {'accuracy':>9} {'drop':>8} {'agreement':>10}")
    click.echo(f"{'(Keras, float)':30} {'':>10} {result.float_accuracy:9.4f}")
    for file in result.files:
        measured = file.comparison
        figures = f"{file.bytes:10,} {measured.accuracy:9.4f} {measured.drop:+8.4f} {measured.agreement:10.4f}"
        click.secho(f"{file.path:30} {figures}  {measured.verdict}", fg=None if file.passed else "red")
    click.echo(f"{result.images} held-out images; files in {result.folder}")
    for file in result.files:
        if file.flips:
            click.echo(f"images that changed their label in {file.path}: {result.folder / file.flips}")


def _check_gate(result: ExportResult, max_drop: float) -> None:
    rejected = [file.path for file in result.files if not file.passed]
    if rejected:
        raise click.ClickException(
            f"{', '.join(rejected)} lost more than {max_drop} accuracy against the float model; "
            "do not ship it (--max-drop sets the limit)"
        )


@main.command()
@click.argument("file", type=_existing())
@click.argument("data", type=_existing())
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def evaluate(file: Path, data: Path, as_json: bool) -> None:
    """Score an exported FILE in its own runtime on the class folders in DATA (its test/ if it has one).

    \b
    Example:
      edgecls evaluate run/export/model-int8.tflite photos --json
    """
    from edgecls.data import load_labelled
    from edgecls.evaluate import evaluate as score_file
    from edgecls.runtime.classifier import load

    classifier = load(file)
    spec = classifier.spec
    with _ProgressBars() as bars:
        split = load_labelled(data, spec.labels, spec.height, spec.width, progress=lambda *n: bars("read images", *n))
        result = score_file(classifier, split.images, split.labels, progress=lambda *n: bars("score images", *n))
    if as_json:
        _print_json({"file": str(file)} | result.to_json())
    else:
        _print_evaluation(result)


def _print_evaluation(result: Evaluation) -> None:
    click.echo(
        f"images {result.images}  accuracy {result.accuracy:.4f}  macro F1 {result.macro_f1:.4f}  ECE {result.ece:.4f}"
    )
    click.echo(f"{'class':24} {'recall':>8} {'precision':>10} {'images':>7}")
    for label, metrics in result.per_class.items():
        click.echo(f"{label:24} {metrics.recall:8.4f} {metrics.precision:10.4f} {metrics.support:7}")


@main.command()
@click.argument("file", type=_existing())
@click.argument("images", nargs=-1, required=True, type=_existing())
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
            best = prediction.scores.argsort()[::-1][:top_k]
            ranked = ", ".join(f"{classifier.spec.labels[i]} {prediction.scores[i]:.4f}" for i in best)
            click.echo(f"{image}: {ranked}")
    if as_json:
        _print_json(found)
    if failed:
        raise click.ClickException(f"{failed} of {len(images)} images could not be read")


def _prediction_json(image: Path, prediction: Prediction, labels: tuple[str, ...]) -> dict[str, Any]:
    scores = {label: round(float(score), 6) for label, score in zip(labels, prediction.scores, strict=True)}
    best = {"label": prediction.label, "index": prediction.index, "score": round(prediction.score, 6)}
    return {"image": str(image), **best, "scores": scores}


@main.command()
@click.argument("file", type=_existing())
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def info(file: Path, as_json: bool) -> None:
    """Show the contract inside an exported FILE, after checking its hash."""
    from edgecls.spec import read_spec

    spec = asdict(read_spec(file))
    if as_json:
        _print_json({"file": str(file), "bytes": file.stat().st_size} | spec)
        return
    for name, value in ({"file": file, "bytes": f"{file.stat().st_size:,}"} | spec).items():
        text = ", ".join(value) if isinstance(value, tuple) else json.dumps(value) if isinstance(value, dict) else value
        click.echo(f"{name:20} {text}")


@main.command()
@click.argument("file", type=_existing())
def selftest(file: Path) -> None:
    """Check on this machine that FILE gives the answers it gave where it was made.

    The file carries a few real images. Each stage must make the same of them here: decode, resize, engine. Exits
    with 1 and names the first stage that differs.

    \b
    Example:
      edgecls selftest model-int8.tflite
    """
    from edgecls.runtime.classifier import load
    from edgecls.selftest import run_selftest

    classifier = load(file)
    result = run_selftest(classifier)
    engine = f"{classifier.engine.name} {classifier.engine.version}"
    if result.stage:
        unit = "of a score" if result.stage == "engine" else "gray values"
        raise click.ClickException(
            f"{result.stage} differs on {result.sample} by up to {result.difference:.4g} {unit} ({engine}); "
            "this machine does not give the answers the file was tested with"
        )
    click.echo(f"ok: decode, resize and {engine} agree on {result.samples} golden images")


@main.command()
@click.option("--out", type=_existing(), default=Path("edgecls-demo"), show_default=True, help="Folder for all of it.")
def demo(out: Path) -> None:
    """Train, export, score and show: everything once, on images of clothing that come with edgecls."""
    _load_tensorflow()
    from edgecls.demo import EXPORT_CONFIG, run_demo

    with _ProgressBars() as bars:
        result = run_demo(out, bars)
    for warning in result.warnings:
        _warn(warning)
    _print_export(result.export)
    click.echo(f"pictures: {result.sheet}")
    _check_gate(result.export, EXPORT_CONFIG.max_drop)
    click.echo(f"Next: edgecls predict {result.file} IMAGE")


if __name__ == "__main__":
    main()
