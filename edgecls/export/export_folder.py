"""The export folder: the record of one file, and how finished files take the place of older ones."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from edgecls.errors import ConfigError, ModelFileError
from edgecls.export.gate import Comparison
from edgecls.files import locked, read_json, sync_files, write_json
from edgecls.typed import check

RECORD_FILE = "export.json"
PARTIAL = ".partial-"


class Entry(TypedDict):
    """What readers of export.json take from one of its `files`."""

    path: str
    bytes: int
    accuracy: float
    drop: float
    agreement: float
    passed: bool
    flips: str
    verdict: str


class Record(TypedDict):
    """What readers take from export.json."""

    files: list[Entry]


@dataclass(frozen=True)
class ExportedFile:
    """One written file and what it scored, read off the file itself in its own runtime.

    Attributes:
        path: file name inside the export folder.
        format: "tflite" or "onnx".
        precision: one of `config.PRECISIONS`.
        bytes: size of the file.
        sha256: of the file.
        comparison: the file against the float Keras model on the held-out images.
        macro_f1: mean F1 over the classes, 0..1.
        per_class: label -> recall, precision, support.
        flips: name of the picture of the images that changed their label, or "" if none did.
        worst_layer: the layer of an int8 TFLite file that loses most of the signal, if it was measured; else "".
    """

    path: str
    format: str
    precision: str
    bytes: int
    sha256: str
    comparison: Comparison
    macro_f1: float
    per_class: dict[str, Any]
    flips: str
    worst_layer: str

    @property
    def passed(self) -> bool:
        """True if the file may be shipped."""
        return self.comparison.passed

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `files` in export.json."""
        entry = asdict(self)
        comparison: dict[str, Any] = entry.pop("comparison")
        return entry | comparison


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """Return `files` of the folder's export.json; none if it has no such file.

    Raises:
        ModelFileError: export.json is damaged.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return []
    try:
        document = read_json(path)
        check(document, Record, RECORD_FILE)
        return list(document["files"])
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({error}); delete it and export again") from error


def model_name(precision: str, kind: str, *, rejected: bool = False) -> str:
    """Return the name of an exported file; a rejected one says so, that nobody ships it by mistake."""
    return f"model-{precision}.rejected.{kind}" if rejected else f"model-{precision}.{kind}"


def find_file(folder: Path, precision: str, kind: str) -> Path:
    """Return the path of a file in an export folder, a rejected one if no other is there.

    Raises:
        ModelFileError: there is none.
    """
    paths = [folder / model_name(precision, kind, rejected=rejected) for rejected in (False, True)]
    if found := next(filter(Path.is_file, paths), None):
        return found
    raise ModelFileError(f"no {paths[0].name} in {folder}; run 'edgecls export RUN --{precision} --format {kind}'")


def flips_name(precision: str, kind: str) -> str:
    """Return the name of the picture of images whose label a file changed."""
    return f"flips-{precision}-{kind}.png"


def layers_name(precision: str, kind: str) -> str:
    """Return the name of the table of what each layer of a file loses."""
    return f"layers-{precision}-{kind}.csv"


@contextlib.contextmanager
def work_in(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Yield a folder inside `folder` that goes in the end, and the entries of earlier exports; nobody else works there.

    Raises:
        ConfigError: another process does. ModelFileError: export.json is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"another process is exporting into {folder}; wait for it, or give --out another folder"
            ) from error
        older = read_entries(folder)
        for leftover in folder.glob(f"{PARTIAL}*"):
            # Of a process that was killed.
            shutil.rmtree(leftover)
        partial = stack.enter_context(tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder))
        yield Path(partial), older


def publish(
    finished: Path, folder: Path, record: dict[str, Any], files: Sequence[ExportedFile], older: list[dict[str, Any]]
) -> None:
    """Move finished files into `folder`. What export.json says holds at any moment: it drops first what is replaced.

    Args:
        finished: folder on the same file system that holds the new files and pictures.
        folder: the export folder.
        record: export.json but for its `files`.
        files: what `finished` holds.
        older: entries of an earlier export.json; those whose file is still there and not replaced are kept.
    """
    sync_files(finished)
    changed = {model_name(f.precision, f.format, rejected=r) for f in files for r in (False, True)}
    kept = [entry for entry in older if entry["path"] not in changed and (folder / entry["path"]).is_file()]
    if older:
        write_json(folder / RECORD_FILE, record | {"files": kept})
    for file in files:
        which = file.precision, file.format
        names = model_name(*which), model_name(*which, rejected=True), flips_name(*which), layers_name(*which)
        for name in names:
            if (finished / name).exists():
                (finished / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    write_json(folder / RECORD_FILE, record | {"files": kept + [file.to_json() for file in files]})
