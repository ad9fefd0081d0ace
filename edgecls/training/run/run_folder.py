"""The files of a run folder: written at the end of training, read for export and report.

Only loading the model imports TensorFlow.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ModelFileError
from edgecls.files import (
    DAMAGE_ERRORS,
    file_sha256,
    json_sha256,
    read_checked,
    read_json,
    write_atomically,
    write_checked,
)
from edgecls.images.archive import is_folder
from edgecls.images.memmap import chunks
from edgecls.messages.numbers import percent
from edgecls.messages.path_kinds import explain_run, find_run
from edgecls.training.history import EpochRecord
from edgecls.training.run.keras_file import check_keras_file
from edgecls.training.run.run_record import check_record

if TYPE_CHECKING:
    import keras

MODEL_FILE = "model.keras"
RECORD_FILE = "run.json"
SCORES_FILE = "held-out-scores.npy"
VALIDATION_SCORES_FILE = "validation-scores.npy"
HISTORY_FILE = "history.json"
MISTAKES_FILE = "mistakes.csv"
PICTURES_FOLDER = "plots"
# run.json holds the sha256 of these files.
BOUND_FILES = (MODEL_FILE, SCORES_FILE, VALIDATION_SCORES_FILE, HISTORY_FILE)
HISTORY_COLUMNS = tuple(
    field.name for field in dataclasses.fields(EpochRecord) if field.name not in ("largest_step_loss", "layers")
)


def write_record(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write run.json with the sha256 of the run's files and its own, and return it without its own."""
    if files := {name: file_sha256(folder / name) for name in BOUND_FILES if (folder / name).is_file()}:
        record = record | {"files": files}
    write_checked(folder / RECORD_FILE, record)
    return record


def run_id(record: dict[str, Any]) -> str:
    """Return the identifier of a run: the sha256 of run.json, which includes those of its files."""
    return json_sha256(record)


def read_record(run: Path) -> dict[str, Any]:
    """Return run.json of the run folder `run`, without its own sha256.

    Raises:
        ModelFileError: `run` is not a run folder, or its run.json is damaged.
    """
    path = run / RECORD_FILE
    if not path.is_file():
        otherwise = f"{run} is not a run folder: it holds no {RECORD_FILE}; make one with 'edgecls train'"
        raise ModelFileError(explain_run(run) or otherwise)
    try:
        record = read_checked(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train again or restore it from a backup") from error
    if not isinstance(record, dict):
        raise ModelFileError(f"{path} holds {type(record).__name__}, expected a JSON object; train again")
    missing = {"config", "classes", "weights", "metrics", "data", "split", "held_out"} - set(record)
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(sorted(missing))}; it is not a complete run: train again")
    return record


def read_whole_record(run: Path) -> dict[str, Any]:
    """Return run.json of the run folder `run`, after checking all values that export and report use.

    Raises:
        ModelFileError: as in `read_record`, or a value is missing, has a wrong type or is malicious.
    """
    record = read_record(run)
    try:
        check_record(record)
    except ValueError as error:
        raise ModelFileError(f"{run / RECORD_FILE} is damaged ({error}); train again") from error
    return record


def list_learned(record: dict[str, Any]) -> set[str]:
    """Return the paths of the images that a run's network learned from: training images, and those of its refit."""
    parts = ("train", "val") if record.get("refit_images") else ("train",)
    return {path for part in parts for paths in record["split"].get(part, {}).values() for path in paths}


def describe_learned(file: Path, root: Path, paths: Sequence[str]) -> str:
    """Return a sentence about those of the images `paths` in `root` that an exported file learned from; "" if none.

    It is known of a file in its run folder.
    """
    if (run := find_run(file.resolve())) is None:
        return ""
    try:
        record = read_whole_record(run)
    except ModelFileError:
        return ""
    learned, own = list_learned(record), Path(record["data"])
    if is_folder(own):
        count = len({root / path for path in paths} & {own / path for path in learned})
    else:
        # The folder was moved, perhaps here.
        count = len(learned) if learned <= set(paths) else 0
    if not count:
        return ""
    metrics = record["metrics"]
    accuracy = metrics["val_accuracy"] if metrics["test_accuracy"] is None else metrics["test_accuracy"]
    return (
        f"{file} learned from {count:,} of these {len(paths):,} images, so its accuracy is overstated; on the images "
        f"that were held out when it was trained, it was {percent(accuracy)}"
    )


def write_history(folder: Path, history: Sequence[EpochRecord]) -> None:
    """Write history.json and, without the layers, history.csv into `folder`."""
    write_atomically(folder / HISTORY_FILE, json.dumps([record.to_json() for record in history], indent=1).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.to_json() for record in history)
    write_atomically(folder / "history.csv", text.getvalue().encode())


def read_history(run: Path) -> list[EpochRecord]:
    """Return the epochs of the run folder `run`; none for a run made before they were kept.

    Raises:
        ModelFileError: history.json is damaged.
    """
    path = run / HISTORY_FILE
    if not path.exists():
        return []
    try:
        history = [EpochRecord.from_json(record) for record in read_json(path)]
        _check_sha256(path)
        return history
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train again") from error


def write_scores(path: Path, scores: NDArray[np.float32]) -> None:
    """Write the float model's scores, float32 (N, C); every export is compared with those on the held-out images."""
    data = io.BytesIO()
    np.save(data, scores, allow_pickle=False)
    # Not by `np.save`, which does not say why it could not write.
    path.write_bytes(data.getvalue())


def read_held_out_scores(run: Path, images: int, classes: int) -> NDArray[np.float32]:
    """Return the float model's scores, float32 (images, classes), on the held-out images of the run folder `run`.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    return _read_scores(run / SCORES_FILE, images, classes)


def read_validation_scores(run: Path, images: int, classes: int) -> NDArray[np.float32]:
    """Return scores of the validation images, float32 (images, classes), by a classifier that did not see them.

    Only a run whose classifier learned from these images at the end has them (`refit_images` in run.json).

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    return _read_scores(run / VALIDATION_SCORES_FILE, images, classes)


def _read_scores(path: Path, images: int, classes: int) -> NDArray[np.float32]:
    try:
        with path.open("rb") as file:
            scores = np.lib.format.read_array(file, allow_pickle=False)
        _check_sha256(path)
    # The errors of NumPy, which parses the header as Python text.
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); train again") from error
    if scores.shape != (images, classes) or scores.dtype != np.float32:
        expected = f"float32 {(images, classes)}"
        raise ModelFileError(f"{path} holds {scores.dtype} {scores.shape}, expected {expected}; train again")
    return np.asarray(scores)


def _check_sha256(path: Path) -> None:
    """Raise ValueError if the sha256 of a file is not the one in the run.json beside it."""
    if not (path.parent / RECORD_FILE).is_file():
        return
    expected = read_record(path.parent).get("files", {})
    if isinstance(expected, dict) and expected.get(path.name, found := file_sha256(path)) != found:
        raise ValueError(f"it is damaged or of another run: its sha256 is not the one in {RECORD_FILE}")


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Return the sha256 of images uint8 (N, S, S, 1) in their order."""
    digest = hashlib.sha256()
    for chunk in chunks(images):
        digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()


def load_model(run: Path) -> keras.Model:
    """Return the trained Keras model of the run folder `run`.

    Raises:
        ModelFileError: model.keras is missing or damaged.
    """
    import keras
    import tensorflow as tf

    path = run / MODEL_FILE
    if not path.is_file():
        raise ModelFileError(f"{path} is missing; train again")
    try:
        check_keras_file(path)
        _check_sha256(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    # The last two: Keras' errors for an invalid configuration.
    except (*DAMAGE_ERRORS, AssertionError, tf.errors.OpError) as error:
        raise ModelFileError(f"{path} cannot be loaded ({error}); train again or restore it from a backup") from error
