"""One file from which a phase resumes: weights, best weights, optimizer and counters, replaced as a whole."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import TrainingError
from edgecls.files import DAMAGE_ERRORS, write_atomically

if TYPE_CHECKING:
    from edgecls.training.distributed.workers import Workers

Arrays = dict[str, NDArray[Any]]
PREFIX = "array/"
OWNER = "owner"


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint."""

    arrays: Arrays
    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the content of a checkpoint file."""
        buffer = io.BytesIO()
        # With a prefix, as `np.savez` has named arguments of its own.
        named: dict[str, Any] = {f"{PREFIX}{name}": array for name, array in self.arrays.items()}
        np.savez(buffer, **named, state=np.frombuffer(json.dumps(self.state).encode(), np.uint8))
        return buffer.getvalue()

    @classmethod
    def read(cls, file: Path | io.BytesIO) -> Saved:
        """Return the content of a file of `to_bytes`; raise one of `DAMAGE_ERRORS` if it is damaged."""
        with np.load(file, allow_pickle=False) as content:
            held = {name: content[name] for name in content.files}
        for name, array in held.items():
            # NumPy returns the bytes of a file that is not an array.
            if not isinstance(array, np.ndarray):
                raise ValueError(f"its {name} is not an array")
        state = json.loads(held.pop("state").tobytes())
        return cls({name.removeprefix(PREFIX): array for name, array in held.items()}, state)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, which may not exist yet."""

    path: Path  # of the file
    owner: str = ""  # identifies run and phase; a file of another owner is refused

    def write(self, arrays: Arrays, state: dict[str, Any]) -> None:
        """Replace the file; at any time, either the old or the new one is there, complete.

        Raises:
            TrainingError: it cannot be written; the old one is still there.
        """
        data = Saved(arrays, state | {OWNER: self.owner}).to_bytes()
        try:
            write_atomically(self.path, data)
        except OSError as error:
            raise TrainingError(
                f"the checkpoint {self.path} cannot be written: {error.strerror or error}; the one before it is still "
                "good: make room, then go on ('edgecls train' with --resume, 'edgecls sweep' with the same command)"
            ) from error

    def read(self) -> Saved | None:
        """Return what was saved last, or None if nothing was.

        Raises:
            TrainingError: the file is damaged, or of another run or phase.
        """
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:
                # NumPy reads the header of an array before its checksum is checked.
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"its {damaged} is damaged")
            saved = Saved.read(self.path)
            if saved.state.pop(OWNER, None) != self.owner:
                raise ValueError("it is of another run or phase, or of an older edgecls")
        except DAMAGE_ERRORS as error:
            raise self.refuse(error) from error
        return saved

    def refuse(self, cause: object) -> TrainingError:
        """Return the error for a file that cannot be used."""
        # In one line: Keras prints whole arrays.
        text = " ".join(str(cause).split())[:200]
        return TrainingError(f"the checkpoint {self.path} is damaged ({text}); delete it to repeat this phase")


def checkpoint_in(work: Path | None, owner: str, name: str) -> Checkpoint | None:
    """Return where a phase of the run `owner`, or a part of one, is saved in `work`; None if that is None."""
    return Checkpoint(work / f"checkpoint-{name}.npz", f"{owner} {name}") if work else None


def measure_once(
    measure: Callable[[], dict[str, float]], checkpoint: Checkpoint | None, workers: Workers
) -> dict[str, float]:
    """Return what an interrupted run or the first worker has measured, or measure it; all workers call this together.

    Args:
        measure: measures.
        checkpoint: where the values are kept; None keeps them nowhere.
        workers: that train together.
    """
    saved = checkpoint.read() if checkpoint is not None else None
    values: dict[str, float] = saved.state if saved is not None else {}
    if not saved and not workers.index:
        values = measure()
    shared: dict[str, float] = json.loads(workers.broadcast(json.dumps(values).encode()))
    if checkpoint is not None:
        checkpoint.write({}, dict(shared))
    return shared
