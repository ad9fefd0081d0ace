"""Finds the exported files of a run for one processor, and exports the missing ones (only this needs TensorFlow)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from edgecls.boards.targets import TARGETS, Target
from edgecls.config import ExportConfig
from edgecls.errors import EdgeclsError
from edgecls.export.export_folder import RECORD_FILE, model_name, read_entries
from edgecls.limits import FORMATS, PRECISIONS, Format
from edgecls.model_file.read import read_spec
from edgecls.progress import Progress, silent
from edgecls.training.run import run_folder

NO_TENSORFLOW = "it is not exported, and exporting needs TensorFlow: pip install 'edgecls[train]'"


@dataclass(frozen=True)
class RunFile:
    """A file that a run has or could have."""

    path: Path  # where it is or would be
    format: Format  # "tflite" or "onnx"
    precision: str  # one of `limits.PRECISIONS`
    is_there: bool  # False if it must be exported first
    problem: str = ""  # why it may not be shipped, or ""


def find_files(run: Path, target: Target, max_drop: float) -> tuple[RunFile, ...]:
    """Return a file for every precision and format that the target runs.

    A rejected file counts as missing if it lost no more than `max_drop`: exported again, it passes.

    Raises:
        ModelFileError: a file is damaged, or not ours.
    """
    own = find_folder(run, target)
    # Float files are the same for every processor.
    folders = {precision: own if precision == "int8" else run / "export" for precision in PRECISIONS}
    known = {folder: _find_known(run, folder) for folder in folders.values()}
    return tuple(
        _find_file(folder, precision, kind, max_drop, known[folder])
        for precision, folder in folders.items()
        for kind in target.formats
    )


def find_folder(run: Path, target: Target) -> Path:
    """Return RUN/export, or RUN/export-TARGET if the first holds int8 files made for another processor.

    Raises:
        ModelFileError: a file is damaged, or not ours.
    """
    folder = run / "export"
    known = _find_known(run, folder)
    for kind in FORMATS:
        for path in _paths(folder, "int8", kind):
            made_for = read_spec(path).target if path.is_file() and _is_known(path, known) else ""
            # TFLite files are the same for every processor except the Edge TPU.
            npus = {name for name, each in TARGETS.items() if each.accelerator}
            is_same = kind == "tflite" and not npus & {made_for, target.name}
            if made_for not in ("", target.name) and not is_same:
                return run / f"export-{target.name}"
    return folder


def _find_known(run: Path, folder: Path) -> frozenset[str] | None:
    """Return the names of this run's unchanged files in a folder; None without an export.json."""
    if not (folder / RECORD_FILE).is_file():
        return None
    found = read_entries(folder, run_folder.run_id(run_folder.read_record(run)))
    return frozenset(entry["path"] for entry in found.entries)


def _is_known(path: Path, known: frozenset[str] | None) -> bool:
    return known is None or path.name in known


def export_missing(
    run: Path,
    files: Sequence[RunFile],
    target: Target,
    max_drop: float,
    *,
    data: Path | None = None,
    progress: Progress = silent,
) -> tuple[RunFile, ...]:
    """Export the missing ones of `files`, which `find_files` returned, and return all of them.

    The `problem` of a file says why it could not be exported. `data` is the folder of the run's images, if they moved.
    """
    missing = [file for file in files if not file.is_there]
    groups: dict[tuple[Path, tuple[Format, ...]], list[str]] = {}
    for (folder, precision), group in groupby(missing, key=lambda file: (file.path.parent, file.precision)):
        groups.setdefault((folder, tuple(file.format for file in group)), []).append(precision)
    problems: dict[tuple[str, Format], str] = {}
    for (folder, formats), precisions in groups.items():
        config = ExportConfig(
            precisions=tuple(precisions),
            formats=formats,
            max_drop=max_drop,
            golden=_wants_golden(files),
            device=target.name,
            **_find_limit(files),
        )
        if problem := _export(run, config, folder, data, progress):
            problems |= {(precision, kind): problem for precision in precisions for kind in formats}
    found = list(files)
    for i, file in enumerate(files):
        if not file.is_there:
            folder = file.path.parent
            now = _find_file(folder, file.precision, file.format, max_drop, _find_known(run, folder))
            # A file that could not be exported again is still the rejected one.
            reasons = now.problem, problems.get((file.precision, file.format), "")
            found[i] = replace(now, problem="; ".join(filter(None, reasons)))
    return tuple(found)


def _export(run: Path, config: ExportConfig, out: Path, data: Path | None, progress: Progress) -> str:
    """Export and return "", or why that failed."""
    if find_spec("tensorflow") is None:
        return NO_TENSORFLOW
    from edgecls.export.artifact import export_run

    try:
        export_run(run, config, out=out, data=data, progress=progress)
    except EdgeclsError as error:
        return f"it could not be exported: {error}"
    return ""


def _find_file(folder: Path, precision: str, kind: Format, max_drop: float, known: frozenset[str] | None) -> RunFile:
    good, rejected = _paths(folder, precision, kind)
    there = [path for path in (good, rejected) if path.is_file()]
    if there and not any(_is_known(path, known) for path in there):
        # It is of another run or was changed, so it counts as missing.
        return RunFile(good, kind, precision, False, f"{there[0].name} is not the file that {RECORD_FILE} describes")
    if good in there and _is_known(good, known) or not there:
        return RunFile(good, kind, precision, good in there)
    metrics = read_spec(rejected).metrics
    drop, collapse = metrics.get("drop"), metrics.get("collapse")
    admitted = isinstance(drop, float) and drop <= max_drop and not collapse
    return RunFile(rejected, kind, precision, not admitted, f"rejected at export: {metrics.get('verdict', 'unknown')}")


def _paths(folder: Path, precision: str, kind: str) -> tuple[Path, Path]:
    """Return the path of a file that passed and that of a rejected one."""
    return folder / model_name(precision, kind), folder / model_name(precision, kind, rejected=True)


def _wants_golden(files: Sequence[RunFile]) -> bool:
    """Return False if the files that are there hold no images for selftest: the others then get none either."""
    there = [read_spec(file.path) for file in files if file.is_there]
    return not there or any(spec.golden for spec in there)


def _find_limit(files: Sequence[RunFile]) -> dict[str, Any]:
    """Return the good class and the limit of the files that are there, as `ExportConfig` takes them."""
    for spec in (read_spec(file.path) for file in files if file.is_there):
        found: Any = spec.metrics.get("inspection")
        if spec.good_class and isinstance(found, dict) and isinstance(found.get("limit"), dict):
            kind, rate = found["limit"].get("kind"), found["limit"].get("rate")
            if kind in ("missed", "false_alarms") and isinstance(rate, float):
                return {"good_class": spec.good_class, f"max_{kind}": rate}
    return {}
