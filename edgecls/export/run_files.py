"""The exported files that a run has for one processor, and the export of those that it lacks.

TensorFlow is needed for the second alone: a board looks at files that were copied to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from edgecls.boards.targets import Target
from edgecls.config import ExportConfig
from edgecls.errors import EdgeclsError
from edgecls.export.export_folder import RECORD_FILE, model_name, read_entries
from edgecls.limits import FORMATS, PRECISIONS, Format
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import read_spec
from edgecls.progress import Progress, silent
from edgecls.training.run import run_folder

NO_TENSORFLOW = "it is not exported, and exporting needs TensorFlow: pip install 'edgecls[train]'"


@dataclass(frozen=True)
class RunFile:
    """A file that a run could have.

    Attributes:
        path: where it is, or would be.
        format: "tflite" or "onnx".
        precision: one of `limits.PRECISIONS`.
        is_there: False if it must be exported first.
        problem: why it may not be shipped; "" if nothing is known against it.
    """

    path: Path
    format: Format
    precision: str
    is_there: bool
    problem: str = ""


def find_files(run: Path, target: Target, max_drop: float) -> tuple[RunFile, ...]:
    """Return a file of every precision and format that the target runs, there or missing.

    A file that its export rejected counts as missing if it lost no more than `max_drop`: exported again, it passes.

    Raises:
        ModelFileError: a file is damaged, or not ours.
    """
    own = find_folder(run, target)
    # Float files are the same for every processor.
    folders = {precision: own if precision == "int8" else run / "export" for precision in PRECISIONS}
    known = {folder: _find_known(run, folder) for folder in folders.values()}
    return tuple(
        _find_file(folders[precision], precision, kind, max_drop, known[folders[precision]])
        for precision in PRECISIONS
        for kind in target.formats
    )


def find_folder(run: Path, target: Target) -> Path:
    """Return RUN/export, or RUN/export-TARGET if the first holds int8 files made for another processor.

    Raises:
        ModelFileError: a file is damaged, or not ours.
    """
    known = _find_known(run, run / "export")
    both = [(path, kind) for kind in FORMATS for path in _names(run / "export", "int8", kind)]
    for path, kind in both:
        made_for = read_spec(path).target if path.is_file() and _is_known(path, known) else ""
        # TFLite files are alike for every processor but the Edge TPU.
        if kind == "tflite" and "coral" not in (made_for, target.name):
            continue
        if made_for and made_for != target.name:
            return run / f"export-{target.name}"
    return run / "export"


def _find_known(run: Path, folder: Path) -> frozenset[str] | None:
    """Return the names of the files that are as this run's export wrote them; None without an export.json."""
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
    """Return the files after those that were missing were exported beside the others; those that could not say why.

    Args:
        run: the run folder.
        files: of `find_files`.
        target: that they are made for.
        max_drop: accuracy that a file may lose.
        data: the run's images, if they moved.
        progress: told now and then.
    """
    missing = [file for file in files if not file.is_there]
    together: dict[tuple[Path, tuple[Format, ...]], list[str]] = {}
    for (folder, precision), group in groupby(missing, key=lambda file: (file.path.parent, file.precision)):
        together.setdefault((folder, tuple(file.format for file in group)), []).append(precision)
    problems: dict[tuple[str, Format], str] = {}
    for (folder, formats), precisions in together.items():
        config = ExportConfig(
            precisions=tuple(precisions),
            formats=formats,
            max_drop=max_drop,
            golden=_wants_golden(files),
            device=target.name,
        )
        if problem := _export(run, config, folder, data, progress):
            problems |= {(precision, kind): problem for precision in precisions for kind in formats}
    found = []
    for file in files:
        now = _find_file(file.path.parent, file.precision, file.format, max_drop, _find_known(run, file.path.parent))
        # One that could not be exported again is still the rejected one.
        reasons = now.problem, problems.get((file.precision, file.format), "")
        problem = "; ".join(filter(None, reasons))
        found.append(file if file.is_there else replace(now, problem=problem))
    return tuple(found)


def _export(run: Path, config: ExportConfig, out: Path, data: Path | None, progress: Progress) -> str:
    """Return "" after exporting, or why that failed."""
    if find_spec("tensorflow") is None:
        return NO_TENSORFLOW
    from edgecls.export.artifact import export_run

    try:
        export_run(run, config, out=out, data=data, progress=progress)
    except EdgeclsError as error:
        return f"it could not be exported: {error}"
    return ""


def _find_file(folder: Path, precision: str, kind: Format, max_drop: float, known: frozenset[str] | None) -> RunFile:
    good, rejected = _names(folder, precision, kind)
    there = [path for path in (good, rejected) if path.is_file()]
    if there and not any(_is_known(path, known) for path in there):
        # Of another run, or changed since: as good as missing.
        return RunFile(good, kind, precision, False, f"{there[0].name} is not the file that {RECORD_FILE} describes")
    if good in there and _is_known(good, known) or not there:
        return RunFile(good, kind, precision, good in there)
    metrics = read_spec(rejected).metrics
    drop, collapse = metrics.get("drop"), metrics.get("collapse")
    admitted = isinstance(drop, float) and drop <= max_drop and not collapse
    return RunFile(rejected, kind, precision, not admitted, f"rejected at export: {metrics.get('verdict', 'unknown')}")


def _names(folder: Path, precision: str, kind: str) -> tuple[Path, Path]:
    """Return where a good file is, and where a rejected one."""
    return folder / model_name(precision, kind), folder / model_name(precision, kind, rejected=True)


def _wants_golden(files: Sequence[RunFile]) -> bool:
    """Return False if the files that are there were exported without images inside: the others must be likewise."""
    there: list[ModelSpec] = [read_spec(file.path) for file in files if file.is_there]
    return not there or any(spec.golden for spec in there)
