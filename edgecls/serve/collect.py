"""Keeps images that the classifier is not sure about, so that somebody can label them and the next file is better.

A collection is a folder: `collected/ID.jpg` is an image without a label, `records/ID.json` says what was predicted,
`labeled/CLASS/ID.jpg` is an image with a label, and `no-class/ID.jpg` one of none of the classes. An image gets its
label by being moved, in one step, so a power cut loses at most the image that is being written.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import ConfigError, DataError
from edgecls.files import locked, read_json, remove_leftovers, write_atomically, write_json
from edgecls.images.decode import Source
from edgecls.images.folders import COLLECTED, LABELED, NO_CLASS, RECORDS
from edgecls.model_file.known_images import KnownImages
from edgecls.runtime.classifier import Prediction

LEAST_MARGIN = 0.3
# Mean difference, in gray values, of two images of 16 x 16 pixels, below which they count as the same.
DUPLICATE_GRAY = 4.0
# So many images are compared with a new one, the newest first.
REMEMBERED = 500
THUMBNAIL = (16, 16)
SUFFIXES = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"BM", ".bmp"), (b"RIFF", ".webp"), (b"P", ".pgm"))
ID = re.compile(r"\d{8}T\d{9}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Limits:
    """Of a collection: bytes of all images in its folder, and images a minute."""

    size_bytes: int = 500_000_000
    images_per_minute: int = 10

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        if self.size_bytes < 1 or self.images_per_minute < 1:
            raise ConfigError(f"the limits of a collection must be 1 or more; received {self}")


class Collection:
    """A folder of images without labels and with them. Threads may share it; `close` lets other processes use it.

    Attributes:
        known: what the file knows, so that images that it does not know are kept; None if it does not say it.
        fault: why the last image could not be kept; "" if it could.

    Raises:
        ConfigError: another process collects into the folder, or a label is no name of a folder.
    """

    def __init__(
        self, root: Path, labels: Sequence[str], limits: Limits | None = None, known: KnownImages | None = None
    ) -> None:
        self.labels, self.limits, self.known = tuple(labels), limits or Limits(), known
        for label in labels:
            if Path(label).name != label or label in (".", "..") or set(label) & set('\\/:*?"<>|'):
                raise ConfigError(f"label {label!r} cannot be the name of a folder; collecting needs such labels")
        self._root, self._lock, self.fault = root, threading.RLock(), ""
        self._stack = contextlib.ExitStack()
        self._open()
        self._recent: deque[float] = deque(maxlen=self.limits.images_per_minute)

    def _open(self) -> None:
        folders = (COLLECTED, RECORDS, NO_CLASS, *(f"{LABELED}/{label}" for label in self.labels))
        for folder in folders:
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        try:
            self._stack.enter_context(locked(self._root, wait=False))
        except BlockingIOError as error:
            raise ConfigError(f"another process collects into {self._root}; choose another folder") from error
        for folder in folders:
            remove_leftovers(self._root / folder)
        self._paths = {path.stem: path for name in folders if name != RECORDS for path in self._images(name)}
        self.size_bytes = sum(path.stat().st_size for path in self._paths.values())
        for record in (self._root / RECORDS).glob("*.json"):
            # Its image was being written when the power went, or was deleted.
            if record.stem not in self._paths:
                record.unlink()
        kept = [self._thumbnail(identity) for identity in sorted(self._paths)[-REMEMBERED:]]
        self._thumbnails = deque([each for each in kept if each is not None], REMEMBERED)

    def _images(self, folder: str) -> list[Path]:
        return [path for path in (self._root / folder).iterdir() if ID.fullmatch(path.stem) and path.is_file()]

    def consider(self, source: Source, pixels: NDArray[np.uint8], prediction: Prediction, name: str) -> str:
        """Keep the image if the prediction is uncertain and there is room; return its identity, or "".

        Args:
            source: whose bytes are kept; arrays, such as a camera's frames, are kept as PNG.
            pixels: the image as the network takes it, uint8 (H, W, 1).
            prediction: for the image.
            name: of the image, for the record.
        """
        reason, thumbnail = find_doubt(prediction, self.known), _shrink(pixels)
        with self._lock:
            if not reason or self._is_too_fast() or self._is_known(thumbnail):
                return ""
            try:
                return self._keep(source, thumbnail, prediction, name, reason)
            except OSError as error:
                # The prediction itself is good, and the next image may have room.
                self.fault = f"an image could not be kept in {self._root}: {error.strerror or error}"
                return ""

    def _keep(
        self, source: Source, thumbnail: NDArray[np.uint8], prediction: Prediction, name: str, reason: str
    ) -> str:
        content = _to_bytes(source)
        if self.size_bytes + len(content) > self.limits.size_bytes:
            limit = f"{self.limits.size_bytes:,} bytes"
            self.fault = f"{self._root} has reached its limit of {limit}; move images elsewhere, or raise the limit"
            return ""
        now = time.time()
        identity = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}{int(now % 1 * 1000):03}-{secrets.token_hex(3)}"
        record = {
            "image": name,
            "label": prediction.label,
            "index": prediction.index,
            "score": round(prediction.score, 6),
            "scores": {label: round(float(s), 6) for label, s in zip(self.labels, prediction.scores, strict=True)},
            "reason": reason,
            "time": round(now, 3),
            "thumbnail": base64.b64encode(thumbnail.tobytes()).decode("ascii"),
        }
        # The record first: an image always has one.
        write_json(self._root / RECORDS / f"{identity}.json", record)
        path = self._root / COLLECTED / f"{identity}{_suffix(content)}"
        write_atomically(path, content)
        sync_folder(path.parent)
        self._paths[identity] = path
        self.size_bytes += len(content)
        self._thumbnails.append(thumbnail)
        self._recent.append(time.monotonic())
        self.fault = ""
        return identity

    def _is_too_fast(self) -> bool:
        full = len(self._recent) == self.limits.images_per_minute
        return full and time.monotonic() - self._recent[0] < 60

    def _is_known(self, thumbnail: NDArray[np.uint8]) -> bool:
        if not self._thumbnails:
            return False
        known = np.array(self._thumbnails, np.int16)
        return bool((np.abs(known - thumbnail).mean((1, 2)) < DUPLICATE_GRAY).any())

    def _thumbnail(self, identity: str) -> NDArray[np.uint8] | None:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            content = base64.b64decode(self._record(identity)["thumbnail"])
            return np.frombuffer(content, np.uint8).reshape(THUMBNAIL)
        return None

    def _record(self, identity: str) -> dict[str, Any]:
        """Return what was predicted; {} if the record is missing or damaged, because the image is what counts."""
        try:
            record = read_json(self._root / RECORDS / f"{identity}.json")
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def list_unlabeled(self, most: int) -> list[dict[str, Any]]:
        """Return the records, with `id`, of images without a label, the newest first."""
        with self._lock:
            chosen = [each for each in sorted(self._paths, reverse=True) if self._paths[each].parent.name == COLLECTED]
            records = [{"id": identity} | self._record(identity) for identity in chosen[:most]]
        return [{name: value for name, value in record.items() if name != "thumbnail"} for record in records]

    def describe(self) -> dict[str, Any]:
        """Return how many images there are, their bytes and the limit, and the last fault."""
        with self._lock:
            folders = [path.parent.name for path in self._paths.values()]
            unlabeled = folders.count(COLLECTED)
            return {
                "unlabeled": unlabeled,
                "labeled": len(folders) - unlabeled,
                "bytes": self.size_bytes,
                "limit_bytes": self.limits.size_bytes,
                "fault": self.fault,
            }

    def path_of(self, identity: str) -> Path:
        """Return the path of an image.

        Raises:
            KeyError: there is none of this identity.
        """
        with self._lock:
            return self._paths[identity]

    def set_label(self, identity: str, label: str | None) -> Path:
        """Move an image to the folder of its label, or of images of no class (None); return its new path.

        Raises:
            KeyError: there is no image of this identity.
            DataError: the label is none of the classifier's.
        """
        if label is not None and label not in self.labels:
            raise DataError(f"unknown label {label!r}; labels are {', '.join(self.labels)}")
        with self._lock:
            old = self._paths[identity]
            new = self._root / (NO_CLASS if label is None else f"{LABELED}/{label}") / old.name
            old.replace(new)
            sync_folder(new.parent)
            self._paths[identity] = new
            return new

    def delete(self, identity: str) -> None:
        """Delete an image and its record; raise KeyError if there is none."""
        with self._lock:
            path = self._paths.pop(identity)
            self.size_bytes -= path.stat().st_size
            path.unlink()
            (self._root / RECORDS / f"{identity}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes collect into the folder."""
        self._stack.close()


def find_doubt(prediction: Prediction, known: KnownImages | None = None) -> str:
    """Return why a prediction is uncertain: "rejected", "low margin" or "unlike training images"; "" if it is not."""
    if prediction.label is None:
        return "rejected"
    others = np.delete(prediction.scores, prediction.index)
    if len(others) and prediction.score - float(others.max()) < LEAST_MARGIN:
        return "low margin"
    return "" if known is None or known.knows(prediction.scores) else "unlike training images"


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a power cut cannot undo a rename; no-op on Windows."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels[:, :, 0]).resize(THUMBNAIL, Image.Resampling.BOX))


def _to_bytes(source: Source) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    picture = Image.fromarray(source) if isinstance(source, np.ndarray) else source
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _suffix(content: bytes) -> str:
    return next((suffix for magic, suffix in SUFFIXES if content.startswith(magic)), ".tif")
