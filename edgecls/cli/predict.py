"""edgecls predict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.option_types import RoiType
from edgecls.cli.terminal import (
    PATH,
    collect_options,
    counting_left_out,
    device_option,
    echo,
    echo_csv,
    host_options,
    one_line,
    print_json,
    read_stdin,
    untrusted_option,
    utc_now,
)
from edgecls.limits import SHARD_IMAGES
from edgecls.messages.lists import counted
from edgecls.messages.names import as_cell, as_cell_path
from edgecls.runtime.engines import ALIASES, ENGINES

if TYPE_CHECKING:
    from edgecls.cli.predict_outputs import Extra
    from edgecls.images.leftovers import LeftOut
    from edgecls.remote.host import Host

# The name of an image that is read from stdin.
STDIN = "-"
# What is done with each prediction on this machine: see `cli.predict_outputs`.
EXTRAS = ("heatmap", "collect", "smooth", "sqlite")


@click.command()
@click.argument("file", type=PATH)
@click.argument("images", nargs=-1)
@click.option("--watch", type=PATH, metavar="DIR", help="Then classify images that appear or change in DIR.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Number of labels shown.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Reject lower scores.  [default: the file's own]")
@click.option("--format", "form", type=click.Choice(["text", "jsonl", "csv"]), help="Output format.  [default: text]")
@click.option("--heatmap", type=PATH, metavar="DIR", help="Draw which part of each image speaks for its label.")
@collect_options
@click.option("--roi", type=RoiType(), help="Classify only this part of each image.  [default: the file's own]")
@click.option("--smooth", metavar="N/M", help="Also report a label when N of the last M images agree, such as 5/7.")
@click.option("--sqlite", type=PATH, metavar="FILE", help="Also write predictions into a table of this database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, at the end.")
@click.option("--engine", type=click.Choice([*ENGINES, *ALIASES]), help="[default: the first that runs FILE]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the big cores, at most 4]")
@device_option
@untrusted_option
@click.option("--out", type=PATH, metavar="DIR", help="Write predictions into DIR, one file for each shard of images.")
@click.option(
    "--shard-images", type=click.IntRange(min=1), default=SHARD_IMAGES, show_default=True, help="Images in a file."
)
@click.option("--ray", metavar="ADDRESS|local[:N]", help="With --out: predict on a Ray cluster.")
@host_options
def predict(file: Path, images: tuple[str, ...], watch: Path | None, host: Host | None, **settings: Any) -> None:
    """Classify IMAGES with an exported FILE: files, folders, quoted patterns, or - for one image on stdin.

    An unreadable image is reported and skipped; the exit status is then 1. A rejected image has no label.

    If FILE names a good class, each answer also says whether the image is a defect. If FILE has a threshold for that
    class, only images that reach it get its label; the others get that of the likeliest defect.

    Control characters in names are escaped on a terminal, and line breaks in every text line. Use --format csv or jsonl
    to read names back; csv has ./ or an apostrophe before a name or label that a spreadsheet would run as a formula.

    With --out, for millions of images: IMAGES may also be lists (.txt, one path or URL a line), tables of images
    (.parquet) and URLs (s3://bucket/folder). DIR gets a manifest.json and a file of JSON lines for each --shard-images
    images. After an interruption the same command resumes. With --ray, workers need edgecls and the images under the
    same paths or URLs; FILE is sent to them, and only this machine writes.

    \b
    Examples:
      edgecls predict run/export/model-int8.tflite a.png b.jpg --top-k 3
      edgecls predict model-int8.tflite photos 'more/*.png' --format csv > labels.csv
      edgecls predict model-int8.tflite --watch inbox --format jsonl --threshold 0.8
      edgecls predict model-int8.tflite photos --host pi@raspberrypi.local
      edgecls predict model-int8.tflite photos --out answers --ray local
      edgecls predict model-int8.tflite s3://bucket/photos --out answers --ray head.local:6379
    """
    form = _choose_format(settings.pop("form"), settings.pop("as_json"), images, watch)
    top_k, out, shard_images, ray = (settings.pop(name) for name in ("top_k", "out", "shard_images", "ray"))
    extras = {name: value for name in EXTRAS if (value := settings.pop(name)) is not None}
    _check_out(out, bool(watch or host or form or extras), ray, images)
    if out is not None:
        from edgecls.cli.bulk import predict_into

        return predict_into(out, shard_images, ray, file, images, settings)
    output, paths = Output(form or "text", top_k), tuple(map(Path, images))
    if host is None:
        return _predict_local(file, paths, watch, output, extras, settings)
    if here := ["--watch"] * bool(watch) + [f"--{name}" for name in extras]:
        raise click.UsageError(f"{here[0]} uses a local folder; run it on the host itself: ssh {host.name}")
    _predict_remote(file, paths, host, output, settings)


def _choose_format(form: str | None, as_json: bool, images: tuple[str, ...], watch: Path | None) -> str | None:
    if not images and watch is None:
        raise click.UsageError("Missing argument 'IMAGES...', or --watch DIR.")
    if as_json and (form or watch):
        raise click.UsageError("--json writes one document at the end; use --format jsonl for one a line.")
    return "json" if as_json else form


def _check_out(out: Path | None, has_others: bool, ray: str | None, images: tuple[str, ...]) -> None:
    """Raise UsageError for options that `--out` excludes, if it is given, or that need it."""
    if out is not None:
        if has_others or STDIN in images:
            others = ", ".join(f"--{name}" for name in ("watch", "host", "format", "json", *EXTRAS))
            raise click.UsageError(f"--out excludes {others} and an image on stdin")
    elif ray is not None:
        raise click.UsageError("--ray needs --out DIR, because it works on shards of images")
    elif urls := [image for image in images if "://" in image]:
        raise click.UsageError(f"{urls[0]} is a URL; URLs need --out DIR")


def _sources(images: tuple[Path, ...], watch: Path | None, left_out: LeftOut | None) -> Iterator[Path | bytes]:
    """Return an iterator over the images, then over those that appear in the watched folder from now on."""
    appearing: Iterator[Path] = iter(())
    if watch is not None:
        from edgecls.images.find import watch_folder

        # Started before the first image is read, so that none is missed.
        appearing = watch_folder(watch, left_out=left_out)

    def read() -> Iterator[Path | bytes]:
        for path in images:
            if str(path) == STDIN:
                yield read_stdin()
            elif path.is_file():
                yield path
            else:
                from edgecls.images.find import find_images

                yield from find_images(path, left_out)
        yield from appearing

    return read()


@contextlib.contextmanager
def _until_stopped(watch: Path | None) -> Iterator[None]:
    """Let Ctrl-C end a watch normally; without a watch it is an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        if watch is None:
            raise


def _predict_local(
    file: Path,
    images: tuple[Path, ...],
    watch: Path | None,
    output: Output,
    extras: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    from edgecls.errors import DataError
    from edgecls.runtime.classifier import load, to_entry

    done = failed = 0
    # Single files need no search, and nothing is left out of them.
    searches = watch is not None or not all(str(path) == STDIN or path.is_file() for path in images)
    counting = counting_left_out(at_once=watch is not None) if searches else contextlib.nullcontext()
    with load(file, **settings) as classifier:
        labels = classifier.spec.labels
        extra: contextlib.AbstractContextManager[Extra | None] = contextlib.nullcontext()
        if extras:
            from edgecls.cli.predict_outputs import open_extras

            extra = open_extras(extras, file, classifier, [*images, *([watch] if watch else [])])
        asked = {"defect": classifier.spec.good_class, "time": watch, "smoothed": "smooth" in extras}
        output.begin(labels, [name for name, given in asked.items() if given])
        with extra as finish, counting as left_out, _until_stopped(watch):
            for source, prediction in classifier.predict_iter(_sources(images, watch, left_out)):
                done += 1
                if isinstance(prediction, DataError):
                    failed += 1
                    _report(prediction)
                else:
                    entry = to_entry(_shown(source), prediction, classifier.spec)
                    entry |= {"time": utc_now()} if watch else {}
                    output.write(entry if finish is None else finish(source, prediction, entry))
    output.end()
    _check_failed(failed, done)


def _predict_remote(file: Path, images: tuple[Path, ...], host: Host, output: Output, settings: dict[str, Any]) -> None:
    from edgecls.cli.remote import check_open, pack_file, parse_answer, run_on_host
    from edgecls.errors import DataError
    from edgecls.remote.bundle import FileBundle

    bundle = FileBundle()
    arguments = ["predict", pack_file(bundle, file), folder := bundle.add_folder("the images"), "--format=jsonl"]
    arguments += [
        f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in settings.items()
        if value is not None and not isinstance(value, bool)
    ]
    arguments += [f"--{name}" for name, value in settings.items() if value is True]
    done = failed = 0
    with counting_left_out() as left_out:
        for source in _sources(images, None, left_out):
            done += 1
            try:
                check_open(source)
            except DataError as error:
                failed += 1
                _report(error)
            else:
                # The content decides the format; the suffix only marks the file as an image.
                bundle.add(source, _shown(source), ".png", folder)
    if failed == done:
        _check_failed(failed, done)

    def write(line: str) -> None:
        entry = bundle.restore(parse_answer(host, line))
        output.begin(entry["scores"], ["defect"] if "defect" in entry else [])
        output.write(entry)

    asked = {name: settings[name] for name in ("engine", "device")}
    status = run_on_host(host, arguments, bundle, write, **asked)
    output.end()
    if status == 0:
        _check_failed(failed, done)
    raise click.exceptions.Exit(status)


def _check_failed(failed: int, done: int) -> None:
    if failed:
        raise click.ClickException(f"{failed} of {counted(done, 'image')} could not be read")


def _report(error: Exception) -> None:
    echo(one_line(f"Error: {error}"), fg="red", err=True)


def _shown(source: Path | bytes) -> str:
    return STDIN if isinstance(source, bytes) else str(source)


class Output:
    """Writes each prediction to stdout at once or, as "json", all in one document at the end."""

    def __init__(self, form: str, top_k: int) -> None:
        self._form, self._top_k = form, top_k
        self._begun, self._more = False, ()  # type: tuple[bool, Sequence[str]]
        self._entries: list[dict[str, Any]] = []

    def begin(self, labels: Iterable[str], more: Sequence[str] = ()) -> None:
        """Write the header, once; `more` are further keys of the entries."""
        if not self._begun and self._form == "csv":
            echo_csv("image", "label", "index", "score", *(f"scores.{label}" for label in labels), *more)
        self._begun, self._more = True, more

    def write(self, entry: dict[str, Any]) -> None:
        """Write one prediction: an entry of `predict --json`."""
        if self._form == "json":
            self._entries.append(entry)
        elif self._form == "jsonl":
            # ASCII only, as in `print_json`.
            echo(json.dumps(entry))
        elif self._form == "csv":
            scores = [f"{value:.6f}" for value in (entry["score"], *entry["scores"].values())]
            more = (_cell(entry[name]) for name in self._more)
            image = entry["image"] if entry["image"] == STDIN else as_cell_path(entry["image"])
            echo_csv(image, _cell(entry["label"]), entry["index"], *scores, *more)
        else:
            echo(_text(entry, self._top_k))

    def end(self) -> None:
        """Write the JSON document, if there was a prediction."""
        if self._begun and self._form == "json":
            print_json(self._entries)


def _cell(value: str | bool | None) -> str:
    return as_cell(value) if isinstance(value, str) else {True: "true", False: "false", None: ""}[value]


def _text(entry: dict[str, Any], top_k: int) -> str:
    # The label comes first, also where another score is as high, or the good class's is higher but below its threshold.
    best = sorted(enumerate(entry["scores"].items()), key=lambda one: (one[0] != entry["index"], -one[1][1], one[0]))
    ranked = ", ".join(f"{label} {score:.4f}" for _, (label, score) in best[:top_k])
    marks = [" (rejected)"] if entry["label"] is None else [" (defect)"] if entry.get("defect") else []
    marks += [f", smoothed {entry['smoothed'] or 'none'}"] if "smoothed" in entry else []
    return f"{one_line(entry['image'])}: {ranked}{''.join(marks)}"
