"""Finds a file of an export folder."""

from __future__ import annotations

from pathlib import Path

from edgecls.errors import ModelFileError
from edgecls.export.export_folder import model_name


def find_file(folder: Path, precision: str, kind: str) -> Path:
    """Return the path of a file in an export folder, or else of the rejected one.

    Raises:
        ModelFileError: there is neither.
    """
    paths = [folder / model_name(precision, kind, rejected=rejected) for rejected in (False, True)]
    if found := next(filter(Path.is_file, paths), None):
        return found
    raise ModelFileError(f"no {paths[0].name} in {folder}; run 'edgecls export RUN --{precision} --format {kind}'")
