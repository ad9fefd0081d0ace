"""The run folder: what a training run leaves, written whole or not at all, and read back for export.

Imports no TensorFlow but to load the model itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError, ModelFileError

if TYPE_CHECKING:
    import keras

MODEL_FILE = "model.keras"
RECORD_FILE = "run.json"
SCORES_FILE = "held-out-scores.npy"


def check_out(out: Path, *, overwrite: bool = False) -> None:
    """Check, before any work is done, that a run may be written to `out`.

    Raises:
        ConfigError: `out` is a file, or exists and may not be replaced, or is not an old run and so never replaced.
    """
    if Path.cwd().is_relative_to(out.resolve()):
        raise ConfigError(f"the current folder {Path.cwd()} would be replaced; give --out a new folder")
    if out.is_dir():
        if not any(out.iterdir()):
            return
        if not (out / RECORD_FILE).is_file():
            raise ConfigError(f"{out} is a folder with other files in it; give --out a new folder")
        if not overwrite:
            raise ConfigError(f"{out} already holds a run; give --out another folder, or --overwrite to replace it")
    elif out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists and is not a folder; give --out a new folder")


@contextlib.contextmanager
def new_run(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that becomes `out` on success and vanishes on any error.

    An old run at `out` is replaced only at the end, when the new one is complete. If `out` is a link, what it points to
    is replaced.

    Raises:
        ConfigError: the folder cannot be written.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as error:
        raise ConfigError(
            f"cannot write to {out.parent}: {error.strerror}; give --out a folder that you may write"
        ) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _put_in_place(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(complete: Path, out: Path) -> None:
    """Rename `complete` to `out`; what was there is back at once if that fails, and gone if it does not."""
    if not out.exists():
        complete.rename(out)
        return
    old = complete.with_name(f"{complete.name}-old")
    try:
        out.rename(old)
        complete.rename(out)
    finally:
        if not out.exists():
            old.rename(out)
    shutil.rmtree(old)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json into `folder`."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def read_record(run: Path) -> dict[str, Any]:
    """Return run.json of the run folder `run`.

    Raises:
        ModelFileError: `run` is not a run folder, or its run.json is damaged.
    """
    path = run / RECORD_FILE
    if not path.is_file():
        raise ModelFileError(f"{run} is not a run folder: it holds no {RECORD_FILE}; make one with 'edgecls train'")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train again or restore it from a backup") from error
    if not isinstance(record, dict):
        raise ModelFileError(f"{path} holds {type(record).__name__}, expected a JSON object; train again")
    missing = {"config", "classes", "weights", "metrics", "data", "split", "held_out"} - set(record)
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(sorted(missing))}; it is not a complete run: train again")
    return record


def write_held_out_scores(folder: Path, scores: NDArray[np.float32]) -> None:
    """Write the float model's scores, float32 (N, C), on the held-out images: what every export is held against."""
    np.save(folder / SCORES_FILE, scores, allow_pickle=False)


def read_held_out_scores(run: Path, images: int, classes: int) -> NDArray[np.float32]:
    """Return the float model's scores, float32 (images, classes), on the held-out images of the run folder `run`.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    path = run / SCORES_FILE
    try:
        with path.open("rb") as file:
            scores = np.lib.format.read_array(file, allow_pickle=False)
    # What numpy, which reads the head as Python text, raises on a damaged one.
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train again") from error
    if scores.shape != (images, classes) or scores.dtype != np.float32:
        expected = f"float32 {(images, classes)}"
        raise ModelFileError(f"{path} holds {scores.dtype} {scores.shape}, expected {expected}; train again")
    return np.asarray(scores)


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Return the sha256 of images uint8 (N, S, S, 1) in their order: the same bytes, the same images."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def load_model(run: Path) -> keras.Model:
    """Return the trained Keras model of the run folder `run`.

    Raises:
        ModelFileError: model.keras is missing or damaged.
    """
    import keras

    path = run / MODEL_FILE
    if not path.is_file():
        raise ModelFileError(f"{path} is missing; train again")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            # Keras would take the wrong weights as they are.
            raise ValueError(f"its {damaged} is damaged")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, KeyError, TypeError, EOFError, RuntimeError) as error:
        raise ModelFileError(f"{path} cannot be loaded ({error}); train again or restore it from a backup") from error
