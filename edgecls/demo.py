"""Holds the images of `edgecls demo`: unpacks the packaged ZIP. Imports the standard library and `errors` only."""

from __future__ import annotations

import tempfile
import zipfile
from importlib import resources
from pathlib import Path

from edgecls.errors import DataError


def unpack_demo_data(folder: Path) -> Path:
    """Return `folder`, holding train/ and test/ with one folder of PNG files for each of 10 classes.

    The folder appears complete or not at all. One that is complete already is left as it is.

    Raises:
        DataError: the folder holds something else, or cannot be written.
    """
    packaged = resources.files("edgecls").joinpath("demo_data/fashion-mnist.zip")
    with packaged.open("rb") as file, zipfile.ZipFile(file) as archive:
        if _is_complete(folder, archive):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".edgecls-demo-") as temporary:
                staged = Path(temporary) / "images"
                archive.extractall(staged)
                # Fails if the folder holds anything: nothing of the user's is ever replaced.
                staged.rename(folder)
        except OSError as error:
            # Another process may have unpacked the same files in the meantime.
            if not _is_complete(folder, archive):
                raise DataError(
                    f"cannot unpack the demo images into {str(folder)!r}: {error}; name a new or an empty folder"
                ) from error
    return folder


def _is_complete(folder: Path, archive: zipfile.ZipFile) -> bool:
    return all(_holds(folder / name, archive.read(name)) for name in archive.namelist())


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
