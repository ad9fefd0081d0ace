"""The export folder and its export.json: what earlier exports left, and how new files replace theirs."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from edgecls.errors import ConfigError, ModelFileError
from edgecls.export.gate import Comparison
from edgecls.files import file_sha256, locked, read_checked, sync_files, write_checked
from edgecls.limits import FORMATS, PRECISIONS
from edgecls.validation import check

RECORD_FILE = "export.json"
PARTIAL = ".partial-"


class Entry(TypedDict):
    """The keys of one of the `files` in export.json that are read again."""

    path: str
    sha256: str
    bytes: int
    accuracy: float
    drop: float
    agreement: float
    passed: bool
    flips: str
    verdict: str


class Owner(TypedDict):
    """The run that files were exported from: its folder at that time, and its `run_folder.run_id`."""

    path: str
    id: str


class _Required(TypedDict):
    files: list[Entry]


class ExportRecord(_Required, total=False):
    """The keys of export.json that are read again; an older edgecls wrote no `run`."""

    run: Owner


@dataclass(frozen=True)
class Earlier:
    """What earlier exports left in a folder."""

    entries: list[dict[str, Any]]  # those of export.json whose file is of this run and unchanged
    notes: tuple[str, ...] = ()  # what is wrong with the other files
    is_others: bool = False  # True if the files are of another run


@dataclass(frozen=True)
class ExportedFile:
    """One exported file and its scores, measured with the file itself in its own runtime.

    Attributes:
        mistakes: name of the CSV file of the incorrectly predicted images; flips-... lists what the file labels
            differently than the float model.
        inspection: of a file with a good class, `good_class.Inspection.to_json` and its `picture`; else None.
        in_mediapipe: of a file with an RGB input, `mediapipe.InMediaPipe` if MediaPipe is installed; else None.
    """

    path: str  # file name inside the export folder
    format: str
    precision: str
    bytes: int
    sha256: str
    comparison: Comparison  # with the float Keras model on the held-out images
    macro_f1: float
    per_class: dict[str, Any]  # label -> recall, precision, support
    flips: str  # name of the picture of the images that the file labels differently, or ""
    worst_layer: str  # the layer of an int8 TFLite file that loses most of the signal, or "" if not measured
    mistakes: str = ""
    inspection: dict[str, Any] | None = None
    in_mediapipe: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """True if the file may be shipped."""
        return self.comparison.passed

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `files` in export.json."""
        entry = asdict(self)
        comparison: dict[str, Any] = entry.pop("comparison")
        return entry | comparison


def read_entries(folder: Path, run_id: str) -> Earlier:
    """Return the entries of a folder's export.json that are of the run `run_id`.

    Raises:
        ModelFileError: export.json is damaged.
    """
    document = _read_document(folder)
    if not document["files"]:
        return Earlier([])
    if document.get("run", {}).get("id") != run_id:
        note = f"the files in {folder} are of an earlier training, another run or an older edgecls; export them again"
        return Earlier([], (note,), is_others=True)
    kept, notes = [], []
    for entry in document["files"]:
        # By its name alone: export.json must not refer to files in other folders.
        path = folder / Path(entry["path"]).name
        if path.is_file() and file_sha256(path) == entry["sha256"]:
            kept.append(entry)
        else:
            what = "was changed after its export" if path.is_file() else "is missing"
            notes.append(f"{path} {what}; export it again")
    return Earlier(kept, tuple(notes))


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    if not path.is_file():
        return {"files": []}
    try:
        document: dict[str, Any] = read_checked(path)
        check(document, ExportRecord, RECORD_FILE)
        return document
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); delete it and export again") from error


def model_name(precision: str, kind: str, *, rejected: bool = False) -> str:
    """Return the name of an exported file; a rejected one says so, so that nobody ships it by mistake."""
    return f"model-{precision}.rejected.{kind}" if rejected else f"model-{precision}.{kind}"


def flips_name(precision: str, kind: str) -> str:
    """Return the name of the picture of a file's differently labeled images."""
    return f"flips-{precision}-{kind}.png"


def rates_name(precision: str, kind: str) -> str:
    """Return the name of the picture of a file's missed defects and false alarms."""
    return f"rates-{precision}-{kind}.png"


def mistakes_name(precision: str, kind: str) -> str:
    """Return the name of the table of a file's incorrectly predicted images."""
    return f"mistakes-{precision}-{kind}.csv"


def flips_table_name(precision: str, kind: str) -> str:
    """Return the name of the table of a file's differently labeled images."""
    return f"flips-{precision}-{kind}.csv"


def layers_name(precision: str, kind: str) -> str:
    """Return the name of the table of the layers' errors."""
    return f"layers-{precision}-{kind}.csv"


@contextlib.contextmanager
def work_in(folder: Path, run: Path, run_id: str) -> Iterator[tuple[Path, Earlier]]:
    """Lock `folder`; yield a temporary folder inside it, and what earlier exports left.

    Raises:
        ConfigError: another process exports there, or the files there are of another run.
        ModelFileError: export.json is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"another process is exporting into {folder}; wait for it, or give --out another folder"
            ) from error
        older = read_entries(folder, run_id)
        if older.is_others:
            _check_replaceable(folder, run.resolve())
        for leftover in folder.glob(f"{PARTIAL}*"):
            # From a process that was killed.
            shutil.rmtree(leftover)
        partial = stack.enter_context(tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder))
        yield Path(partial), older


def _check_replaceable(folder: Path, run: Path) -> None:
    """Raise ConfigError unless the files are of the folder `run`, which was trained again since."""
    other = _read_document(folder).get("run", {}).get("path", "made by an older edgecls")
    if other != str(run) and not folder.resolve().is_relative_to(run):
        raise ConfigError(
            f"{folder} holds files of another run ({other}), not of {run}; give another --out, or remove that folder"
        )


def publish(
    finished: Path, folder: Path, record: dict[str, Any], files: Sequence[ExportedFile], older: Earlier
) -> None:
    """Move the new `files` from `finished` into `folder` and write export.json: `record` and its `files`.

    export.json is true at any moment: it first drops what is replaced. Entries of `older` whose files are not replaced
    are kept; files of another training are removed.
    """
    sync_files(finished)
    changed = {model_name(f.precision, f.format, rejected=r) for f in files for r in (False, True)}
    kept = [entry for entry in older.entries if entry["path"] not in changed]
    if older.entries or older.notes:
        write_checked(folder / RECORD_FILE, record | {"files": kept})
    replaced = [(file.precision, file.format) for file in files]
    if older.is_others:
        replaced = list(itertools.product(PRECISIONS, FORMATS))
    for which in replaced:
        named = (flips_name, layers_name, rates_name, mistakes_name, flips_table_name)
        names = [model_name(*which), model_name(*which, rejected=True), *(name(*which) for name in named)]
        for name in names:
            if (finished / name).exists():
                (finished / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    write_checked(folder / RECORD_FILE, record | {"files": kept + [file.to_json() for file in files]})


def list_removed(folder: Path, older: Earlier) -> list[str]:
    """Return a sentence for each file of an earlier export that passed and is gone, as the new one was rejected."""
    return [
        f"{entry['path']} of an earlier export passed and was removed, as the new file did not pass; to have it again, "
        "repeat the earlier export"
        for entry in older.entries
        if entry["passed"] and not (folder / entry["path"]).exists()
    ]
