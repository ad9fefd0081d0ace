"""What `edgecls predict` does with each prediction beside printing it: its heat map, the image, a database.

Each step adds to the entry that is printed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import utc_now, warn
from edgecls.errors import EdgeclsError

if TYPE_CHECKING:
    from edgecls.model_file.metadata import ModelSpec
    from edgecls.runtime.classifier import Classifier, Prediction

LONGEST_NAME = 200
Extra = Callable[[Path | bytes, "Prediction", dict[str, Any]], dict[str, Any]]


@contextlib.contextmanager
def open_extras(extras: dict[str, Any], file: Path, classifier: Classifier, sources: Sequence[Path]) -> Iterator[Extra]:
    """Yield a function from an image, its prediction and its entry to the entry that is printed.

    Args:
        extras: options of `edgecls predict` that were given, by name.
        file: of the classifier.
        classifier: that predicts.
        sources: files and folders that images come from.
    """
    steps: list[Extra] = []
    with contextlib.ExitStack() as stack:
        if folder := extras.get("heatmap"):
            check_folder("--heatmap", folder, sources)
            steps.append(_heatmap_step(folder, file, classifier.spec))
        if "collect" in extras:
            folder, limit_bytes = extras["collect"]
            check_folder("--collect", folder, sources)
            steps.append(stack.enter_context(_collect_step(folder, limit_bytes, classifier)))
        if "smooth" in extras:
            steps.append(_smooth_step(*parse_smooth(extras["smooth"])))
        if "sqlite" in extras:
            steps.append(stack.enter_context(_sqlite_step(extras["sqlite"])))

        def finish(source: Path | bytes, prediction: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
            for step in steps:
                entry = step(source, prediction, entry)
            return entry

        yield finish


def check_folder(option: str, folder: Path, sources: Sequence[Path]) -> None:
    """Raise UsageError if pictures in `folder` would be classified as images themselves."""
    for source in sources:
        if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
            raise click.UsageError(
                f"{option} {folder} lies in {source}, whose images are classified; choose a folder outside it"
            )


def _heatmap_step(folder: Path, file: Path, spec: ModelSpec) -> Extra:
    """Return the step that draws a heat map into `folder`; raise ModelFileError if the file has none."""
    from edgecls.errors import ModelFileError
    from edgecls.files import write_rendered
    from edgecls.images.decode import decode_part
    from edgecls.images.heatmap import draw_heatmap

    if not spec.heatmap:
        raise ModelFileError(f"{file} has no heat map; export it again with: edgecls export RUN --heatmap")

    def draw(source: Path | bytes, prediction: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
        assert prediction.heatmap is not None
        picture = decode_part(source, spec.height, spec.width, spec.preprocessing)
        drawn = draw_heatmap(picture, prediction.heatmap, spec.labels[prediction.index], prediction.score)
        path = folder / ("stdin.png" if isinstance(source, bytes) else _name(source))
        write_rendered(path, functools.partial(drawn.save, format="PNG"))
        return entry | {"heatmap": str(path)}

    return draw


@contextlib.contextmanager
def _collect_step(folder: Path, limit_bytes: int, classifier: Classifier) -> Iterator[Extra]:
    """Yield the step that keeps uncertain images in `folder`."""
    from edgecls.model_file.known_images import read_known
    from edgecls.serve.collect import Collection, Limits, find_doubt

    known = read_known(classifier.spec)
    collection = Collection(folder, classifier.spec.labels, Limits(limit_bytes), known)
    warned: set[str] = set()

    def keep(source: Path | bytes, prediction: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
        if find_doubt(prediction, known):
            identity = collection.consider(source, classifier.read(source), prediction, entry["image"])
            if collection.fault and collection.fault not in warned:
                warned.add(collection.fault)
                warn(collection.fault)
            entry = entry | ({"collected": identity} if identity else {})
        return entry

    with contextlib.closing(collection):
        yield keep


def _name(source: Path) -> str:
    """Return a name for the picture that says which image it is of, and is the same each time."""
    parts = [part for part in source.parts if part not in (source.anchor, "..")]
    name = "-".join(parts)
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        name = f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}-{source.name[-40:]}"
    return f"{name}.png"


def parse_smooth(text: str) -> tuple[int, int]:
    """Return N and M of "N/M"; raise UsageError for another form, or if two labels could be the answer."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    least, images = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < images / 2 < least <= images):
        raise click.UsageError(f"--smooth is N/M, N more than half of M, such as 5/7; received {text!r}")
    return least, images


def _smooth_step(least: int, images: int) -> Extra:
    """Return the step that adds `smoothed`: the label of at least so many of the last images; None if there is none."""
    last: deque[str | None] = deque(maxlen=images)

    def smooth(_: Path | bytes, prediction: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
        last.append(prediction.label)
        label, count = Counter(last).most_common(1)[0]
        return entry | {"smoothed": label if count >= least else None}

    return smooth


@contextlib.contextmanager
def _sqlite_step(path: Path) -> Iterator[Extra]:
    """Yield the step that adds a row to the table `predictions`; each row is on the disk before the next image.

    Raises:
        ConfigError: the file is no database, or has another table of this name.
    """
    import sqlite3

    columns = ("time TEXT", "image TEXT", "label TEXT", "score REAL", "scores TEXT", "smoothed TEXT")
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            # A reader does not block the writer, and a power cut loses no row.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"CREATE TABLE IF NOT EXISTS predictions ({', '.join(columns)})")

            def write(_: Path | bytes, __: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
                row = entry | {"scores": json.dumps(entry["scores"])}
                row["time"] = entry.get("time") or utc_now()
                names = [column.split()[0] for column in columns]
                # A byte of a file name that is not text has no form in a database.
                values = [_to_text(row.get(name)) for name in names]
                places = ", ".join("?" * len(names))
                database.execute(f"INSERT INTO predictions ({', '.join(names)}) VALUES ({places})", values)
                return entry

            yield write
    except sqlite3.Error as error:
        raise EdgeclsError(f"cannot write predictions into {path}: {error}; choose another file") from error


def _to_text(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
