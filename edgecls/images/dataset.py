"""Reads folders of images into uint8 arrays, with a seeded stratified split."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.images.archive import exists
from edgecls.images.assign import assign
from edgecls.images.decode import PLAIN, load_gray
from edgecls.images.depth import Scale
from edgecls.images.folders import Sample, check_root, list_labeled
from edgecls.images.layout import FOLDERS, Layout
from edgecls.images.leftovers import LeftOut
from edgecls.images.memmap import cache_folder, chunks, forget_pages, new_array
from edgecls.images.splitting import find_identical
from edgecls.messages.lists import counted, some_lines
from edgecls.preprocessing import Preprocessing

ProgressCallback = Callable[[int, int], None]  # done, total

# Images that are submitted together; after them, mapped memory is returned to the system.
BATCH_IMAGES = 500
_Read = Callable[[str, NDArray[np.uint8]], str]  # of decode_row
_Bad = tuple[tuple[str, str], ...]  # path and fault


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one part."""

    paths: tuple[str, ...]  # posix paths relative to the dataset's root
    images: NDArray[np.uint8]  # uint8 (N, H, W, 1), 0..255
    labels: NDArray[np.int64]  # int64 (N,), index into the classes
    scales: tuple[Scale, ...] = ()  # of each image of more than 8 bits, in any order; a part of a Dataset has none

    @functools.cached_property
    def digests(self) -> tuple[bytes, ...]:
        """Return the sha256 of each image's pixels."""
        return tuple(sha256_of_each(self.images))

    def take_some(self, most: int, seed: int) -> Split:
        """Return at most so many of the images, drawn by `seed`, in their order.

        Raises:
            DataError: there is no room for them.
        """
        if most >= len(self.labels):
            return self
        chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(self.labels))[:most])
        # Thousands of large images would not fit in memory.
        images = _allocate(len(chosen), self.images.shape[1:3])
        for place, number in enumerate(chosen):
            images[place] = self.images[number]
            if place % BATCH_IMAGES == 0:
                forget_pages(images)
                forget_pages(self.images)
        return Split(tuple(self.paths[i] for i in chosen), images, self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything read from one folder of images, or from several.

    Attributes:
        contradictions: groups of paths whose decoded images are identical but have several labels.
        repeats: groups of paths whose decoded images are identical, in one class and part.
    """

    root: Path  # the folder that all paths are relative to, absolute
    classes: tuple[str, ...]  # names in NFC, in code-point order
    train: Split  # images to learn from
    val: Split  # images that choose when to stop
    test: Split | None  # images kept for the end; None if the folder has `train` but no `test`
    bad: tuple[tuple[str, str], ...]  # path and reason of each image that was skipped
    duplicates: tuple[tuple[str, ...], ...]  # groups of paths whose decoded images are identical, in several parts
    contradictions: tuple[tuple[str, ...], ...] = ()
    repeats: tuple[tuple[str, ...], ...] = ()
    doubts: tuple[str, ...] = ()  # sentences that say why the folders may not be classes
    notes: tuple[str, ...] = ()  # sentences that say how splits and labels were read, if not by plain names of folders
    group_of: Mapping[str, str] = field(default_factory=dict)  # path -> the group of the images that are in one
    left_out: str = ""  # which files are not used, as a sentence; "" if all are used
    scales: tuple[Scale, ...] = ()  # of each image of more than 8 bits, in any order
    is_split_here: bool = False  # True if neither folders nor a table split the first folder


def load_dataset(  # noqa: PLR0913
    root: Path,
    image_size: int,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    layout: Layout = FOLDERS,
    more: Sequence[Path] = (),
    skip_bad: bool = False,
    preprocessing: Preprocessing = PLAIN,
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Return the images of a folder; if it is not split, the split depends on (seed, class, path) only.

    Args:
        root: folder of class folders, or of train/ and, if they are there, val/ and test/; or a ZIP or tar file.
        image_size: side of the square images.
        val_fraction: fraction for validation if there is no val/.
        test_fraction: fraction for the test if the folder is flat.
        seed: of the split.
        layout: what the folders do not say.
        more: folders of more images, see `assign`.
        skip_bad: skip images that cannot be read instead of failing.
        preprocessing: of `load_gray`.
        progress: called with (done, total) after each image.

    Raises:
        DataError: the folder is not as described, a class has too few images, or images cannot be read.
    """
    left_out, held_out = LeftOut(), {"val": val_fraction, "test": test_fraction}
    found = assign((root, *more), layout, held_out, seed, left_out)
    scales: list[Scale] = []
    read = functools.partial(decode_row, found.root, preprocessing=preprocessing, scales=scales)
    splits, bad = _decode(read, found.samples, (image_size, image_size), progress)
    _check_left(found.root, splits, found.classes, bad, skip_bad)
    return Dataset(
        *(found.root, found.classes, splits["train"], splits["val"], splits.get("test"), bad, *find_identical(splits)),
        *(found.doubts, found.notes, found.group_of, str(left_out), tuple(scales), found.is_split_here),
    )


def load_labeled(
    root: Path,
    classes: Sequence[str],
    height: int,
    width: int,
    *,
    preprocessing: Preprocessing = PLAIN,
    left_out: LeftOut | None = None,
    progress: ProgressCallback | None = None,
) -> Split:
    """Return the images that `list_labeled` finds, in its order; `preprocessing` as in `load_gray`.

    Raises:
        DataError: as `list_labeled` raises it, or images cannot be read.
    """
    samples, _ = list_labeled(root, classes, left_out)
    return _load_all(check_root(root), samples, (height, width), preprocessing, progress)


def load_paths(
    root: Path,
    paths: Sequence[str],
    labels: Sequence[int],
    height: int,
    width: int,
    *,
    preprocessing: Preprocessing = PLAIN,
    progress: ProgressCallback | None = None,
) -> Split:
    """Return exactly these images, as a run lists them, in this order; `preprocessing` as in `load_gray`.

    Raises:
        DataError: images have vanished or cannot be read, or `paths` and `labels` differ in length.
    """
    root = check_root(root)
    if len(paths) != len(labels):
        raise DataError(f"received {len(paths)} paths and {len(labels)} labels; pass a label for each path")
    vanished = [repr(path) for path in paths if not exists(root / path)]
    if vanished:
        raise DataError(
            f"{len(vanished)} of {len(paths)} images of the run are no longer in {root}; put them back or train again:"
            + some_lines(vanished)
        )
    return _load_all(root, list(zip(paths, labels, strict=True)), (height, width), preprocessing, progress)


def sha256_of_each(images: NDArray[np.uint8]) -> list[bytes]:
    """Return the sha256 of the pixels of each image, uint8 (N, H, W, 1)."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for chunk in chunks(images) for image in chunk]


def _load_all(
    root: Path,
    samples: list[Sample],
    size: tuple[int, int],
    preprocessing: Preprocessing,
    progress: ProgressCallback | None,
) -> Split:
    scales: list[Scale] = []
    read = functools.partial(decode_row, root, preprocessing=preprocessing, scales=scales)
    splits, bad = _decode(read, {"all": samples}, size, progress)
    _check_readable(root, bad)
    return dataclasses.replace(splits["all"], scales=tuple(scales))


def _check_readable(root: Path, bad: _Bad, otherwise: str = "") -> None:
    if bad:
        raise unreadable(root, [fault for _, fault in bad], otherwise)


def _check_left(root: Path, splits: Mapping[str, Split], classes: Sequence[str], bad: _Bad, skip_bad: bool) -> None:
    """Raise DataError if images are unreadable and not skipped, a class has none in train, or a part none at all."""
    _check_readable(root, () if skip_bad else bad, ", or skip them (--skip-bad)")
    missing = set(range(len(classes))) - set(splits["train"].labels.tolist())
    empty = [f"class {classes[label]!r} in train" for label in sorted(missing)]
    empty += [part for part, split in splits.items() if not len(split.labels)]
    if empty:
        skipped = f"{len(bad)} unreadable images were skipped"
        raise DataError(f"no image is left after {skipped}; repair or add some:" + some_lines(empty))


def _decode(
    read: _Read, samples: Mapping[str, list[Sample]], size: tuple[int, int], progress: ProgressCallback | None
) -> tuple[dict[str, Split], _Bad]:
    """Return the readable images of each part, and path and error of the others."""
    arrays = {part: _allocate(len(chosen), size) for part, chosen in samples.items()}
    rows = (row for array in arrays.values() for row in array)
    paths = [path for chosen in samples.values() for path, _ in chosen]
    faults = iter(_decode_rows(read, paths, rows, progress))
    splits: dict[str, Split] = {}
    bad: list[tuple[str, str]] = []
    for part, chosen in samples.items():
        results = list(islice(faults, len(chosen)))
        good = [index for index, fault in enumerate(results) if not fault]
        bad += [(_printable(path), fault) for (path, _), fault in zip(chosen, results, strict=True) if fault]
        # In place, to save memory.
        for new, old in enumerate(good):
            if new != old:
                arrays[part][new] = arrays[part][old]
        labels = np.array([chosen[index][1] for index in good], np.int64)
        splits[part] = Split(tuple(chosen[index][0] for index in good), arrays[part][: len(good)], labels)
        forget_pages(arrays[part])
    return splits, tuple(bad)


def _allocate(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return new_array((count, *size, 1), np.uint8)
    except (OSError, MemoryError) as error:
        need = f"{count} images of {size[0]} x {size[1]} need {count * size[0] * size[1] / 1e9:.1f} GB of disk"
        remedy = "free some, set XDG_CACHE_HOME to a larger disk, or use a smaller image size"
        raise DataError(f"{need} in {cache_folder()} ({error}); {remedy}") from error


def _decode_rows(
    read: _Read, paths: list[str], rows: Iterator[NDArray[np.uint8]], progress: ProgressCallback | None
) -> list[str]:
    """Return the error of each file, or ""."""
    results: list[str] = []
    # Pillow releases the GIL while it decodes. A batch at a time, because each submitted file takes memory, and there
    # may be a million. Leaving the loop early, as Ctrl-C does, cancels the rest.
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(rows, BATCH_IMAGES)):
            for result in pool.map(read, paths[len(results) : len(results) + len(batch)], batch):
                results.append(result)
                if progress is not None:
                    progress(len(results), len(paths))
            forget_pages(batch[0])
    return results


def decode_row(
    root: Path,
    path: str,
    row: NDArray[np.uint8],
    preprocessing: Preprocessing = PLAIN,
    scales: list[Scale] | None = None,
) -> str:
    """Write the pixels of an image into `row`, uint8 (H, W, 1); return "" or the error."""
    if _printable(path) != path:
        return f"the name of {_printable(path)} is not UTF-8; rename it"
    try:
        row[...] = load_gray(root / path, row.shape[0], row.shape[1], preprocessing, scales)
    except DataError as error:
        return str(error)
    return ""


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def unreadable(root: Path, faults: Sequence[str], otherwise: str = "") -> DataError:
    """Return the error about unreadable images of a folder, with another remedy `otherwise`."""
    cannot = f"{counted(len(faults), 'image')} in {root} cannot be read"
    return DataError(f"{cannot}; repair or remove these files{otherwise}:{some_lines(faults)}")
