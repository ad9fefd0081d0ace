"""Features of a frozen backbone, computed once for each image and augmented copy, and cached on disk.

A classifier then trains on them in seconds instead of minutes. Each folder of the cache is for one network and one
number of augmented copy. New images in a data set need only their own features; files.py describes the files.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.errors import TrainingError
from edgecls.files import locked
from edgecls.images.memmap import cache_folder, forget_pages
from edgecls.parallel.pool import current_pool
from edgecls.training.features import files
from edgecls.training.features.augment import change_images, draw_changes
from edgecls.training.features.forward import BATCH_SIZE, Forward

LOCK_FILE = "lock"
# When the cache is larger, whole folders are removed, the longest unused first.
CACHE_BYTES = 20 * 10**9
FORGET_EVERY = 20  # batches


@dataclass(frozen=True)
class AugmentedCopy:
    """One copy of every image: the image itself (number 0), or a random change of it."""

    number: int = 0
    augment: AugmentConfig | None = None
    seed: int = 0

    def apply(self, images: NDArray[np.uint8], keys: Sequence[int]) -> NDArray[np.uint8]:
        """Return this copy of images, uint8 (N, S, S, 1); see `draw_changes` for the keys."""
        if not self.number or self.augment is None:
            return images
        return change_images(images, draw_changes(self.augment, images.shape[1], keys, self.number, self.seed))


def image_key(digest: bytes) -> int:
    """Return the key of an image for `AugmentedCopy.apply`, which depends on its content alone."""
    return int.from_bytes(digest[:8], "little")


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images."""

    rows: NDArray[np.float16]  # float16 (M, ...), mapped from the cache
    index: NDArray[np.int64]  # int64 (N,), the row of each image

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: Sequence[int]) -> NDArray[np.float16]:
        """Return the features, float16 (len(chosen), ...), of the images `chosen`."""
        return self.take(np.array(chosen, np.int64))

    def take(self, chosen: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the features, float16 (len(chosen), ...), of the images `chosen`."""
        found = np.asarray(self.rows[self.index[chosen]])
        # After each call, because the system may map 2 MiB around each row.
        forget_pages(self.rows)
        return found


def joined(first: Features, second: Features) -> Features:
    """Return the features of the images of both, of one network and copy; `second` was read after `first`."""
    # A cache only grows, so its later rows begin with the earlier ones.
    return Features(second.rows, np.concatenate([first.index, second.index]))


def cached_features(
    network: dict[str, Any],
    forward: Callable[[], Forward],
    images: NDArray[np.uint8],
    digests: Sequence[bytes],
    copy: AugmentedCopy,
    *,
    below: Callable[[], Features] | None = None,
    cache: Path | None = None,
    progress: Callable[..., None] = lambda done, total, note="": None,
) -> Features:
    """Return the features of all images, after computing those that are not cached in the current pool.

    Args:
        network: JSON that identifies the frozen network.
        forward: returns the network; called only if features are missing.
        images: uint8 (N, S, S, 1), 0..255.
        digests: `data.sha256_of_each(images)`.
        copy: the copy of the images to pass to the network.
        below: returns features of this copy for the network, in place of the images; called only if some are missing.
        cache: folder of all caches, by default the user's.
        progress: called as progress(images done, all images), and with a note before it waits.

    Raises:
        TrainingError: the disk has no room for them.
    """
    folder = (cache or feature_folder()) / _key(network, copy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report = functools.partial(progress, 0, len(digests))
        with locked(folder / LOCK_FILE, on_wait=lambda: report("waiting for another run that computes them")):
            os.utime(folder)
            stored = files.read_checked(folder, set(digests), report)
            if missing := set(digests) - stored.row_of.keys():
                inputs, applied = (below(), AugmentedCopy()) if below else (images, copy)
                _compute(folder, forward(), inputs, digests, missing, applied, stored.rows, progress)
                stored = files.read_stored(folder)
    except OSError as error:
        raise _no_room(folder, error) from error
    return _open(folder, stored, digests)


def _open(folder: Path, stored: files.Stored, digests: Sequence[bytes]) -> Features:
    rows = np.memmap(folder / files.ROWS_FILE, np.float16, "r", shape=(stored.rows, *stored.shape))
    return Features(rows, np.array([stored.row_of[digest] for digest in digests], np.int64))


def _no_room(folder: Path, error: OSError) -> TrainingError:
    remedy = "free some of the disk, set XDG_CACHE_HOME to a larger one, or use fewer --augmented-copies"
    return TrainingError(f"the features cannot be kept in {folder}: {error.strerror or error}; {remedy}")


def feature_folder() -> Path:
    """Return the folder of the user's own cache."""
    return cache_folder() / "features"


def prune(cache: Path, most_bytes: int = CACHE_BYTES) -> None:
    """Remove the longest unused folders of a cache until it has at most `most_bytes`; folders in use stay."""
    if not cache.is_dir():
        return
    with locked(cache / LOCK_FILE):
        folders = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
        total = sum(sizes)
        for folder, size in zip(folders, sizes, strict=True):
            if total <= most_bytes:
                return
            # Not a folder that another process is writing.
            with contextlib.suppress(BlockingIOError), locked(folder / LOCK_FILE, wait=False):
                shutil.rmtree(folder)
                total -= size


def _key(network: dict[str, Any], copy: AugmentedCopy) -> str:
    augment = None if not copy.number or copy.augment is None else [vars(copy.augment), copy.number, copy.seed]
    text = json.dumps([files.FORMAT, network, augment], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _compute(
    folder: Path,
    forward: Forward,
    inputs: NDArray[np.uint8] | Features,
    digests: Sequence[bytes],
    missing: set[bytes],
    copy: AugmentedCopy,
    known: int,
    progress: Callable[..., None],
) -> None:
    """Append the features of the missing images to the files of `folder`."""
    total, done = len(missing), 0
    writer: files.Writer | None = None
    with contextlib.ExitStack() as stack:
        batches = (
            _Batch(chosen, np.asarray(inputs[chosen]), [image_key(digests[i]) for i in chosen])
            for chosen in _batches_of_missing(digests, missing)
        )
        # In order, so that the files do not depend on the pool.
        for batch, rows in current_pool().map(_compute_rows, (forward, copy), batches, in_order=True):
            if not np.isfinite(rows).all():
                raise TrainingError(
                    "the backbone returned features beyond float16; use pretrained or other weights (--weights)"
                )
            if writer is None:
                _check_room(folder, total * rows[0].nbytes)
                writer = stack.enter_context(files.open_writer(folder, known, rows[0]))
            writer.append(rows, [digests[i] for i in batch.chosen])
            done += len(batch.chosen)
            progress(done, total)
            if done % (FORGET_EVERY * BATCH_SIZE) == 0:
                forget_pages(inputs)
    forget_pages(inputs)


@dataclass(frozen=True, eq=False)
class _Batch:
    chosen: list[int]
    inputs: NDArray[Any]  # images, uint8 (N, S, S, 1), or features of them
    keys: list[int]  # of `AugmentedCopy.apply`

    def __str__(self) -> str:
        return f"{len(self.chosen)} images from number {self.chosen[0]} on"


def _compute_rows(shared: tuple[Forward, AugmentedCopy], batch: _Batch) -> NDArray[np.float16]:
    forward, copy = shared
    with np.errstate(over="ignore"):  # the caller checks for it
        return forward(copy.apply(batch.inputs, batch.keys)).astype(np.float16)


def _batches_of_missing(digests: Sequence[bytes], missing: set[bytes]) -> Iterator[list[int]]:
    batch: list[int] = []
    left = set(missing)
    for number, digest in enumerate(digests):
        if digest in left:
            # Identical images are computed once.
            left.remove(digest)
            batch.append(number)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise TrainingError(
            f"the features need {needed_bytes / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; free some, set "
            "XDG_CACHE_HOME to a larger disk, or use fewer --augmented-copies"
        )
