"""Reads folders of images into uint8 arrays, with a seeded stratified split."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.images.archive import exists
from edgecls.images.decode import load_gray
from edgecls.images.depth import Scale
from edgecls.images.folders import Groups, Sample, check_classes, check_root, list_labeled, to_samples
from edgecls.images.grouping import describe_groups, divide, find_groups
from edgecls.images.layout import FOLDERS, Layout, list_dataset
from edgecls.images.leftovers import LeftOut
from edgecls.images.memmap import cache_folder, chunks, forget_pages, new_array
from edgecls.images.parts import PARTS
from edgecls.images.splitting import find_identical
from edgecls.messages.lists import some_lines

ProgressCallback = Callable[[int, int], None]  # done, total

# After so many images, mapped memory is returned to the system.
FORGET_EVERY = 500
_Read = Callable[[str, NDArray[np.uint8]], str]  # of decode_row
_Bad = tuple[tuple[str, str], ...]  # path and fault


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one part.

    Attributes:
        paths: posix paths relative to the dataset's root.
        images: uint8 (N, H, W, 1), 0..255.
        labels: int64 (N,), index into the classes.
    """

    paths: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @functools.cached_property
    def digests(self) -> tuple[bytes, ...]:
        """Return the sha256 of each image's pixels."""
        return tuple(sha256_of_each(self.images))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything read from one folder of images.

    Attributes:
        root: the folder, absolute.
        classes: names in NFC, in code-point order.
        train: images to learn from.
        val: images that choose when to stop.
        test: images kept for the end; None if the folder has `train` but no `test`.
        bad: path and reason of each image that was skipped.
        duplicates: groups of paths whose decoded images are identical, in several parts.
        contradictions: groups of paths whose decoded images are identical but have several labels.
        repeats: groups of paths whose decoded images are identical, in one class and part.
        doubts: sentences that say why the folders may not be classes.
        notes: sentences that say how splits and labels were read, if not by plain names of folders.
        group_of: path -> the group of the images that are in one.
        left_out: which files are not used, as a sentence; "" if all are used.
        scales: of each image of more than 8 bits, in any order.
    """

    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None
    bad: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]
    contradictions: tuple[tuple[str, ...], ...] = ()
    repeats: tuple[tuple[str, ...], ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    group_of: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""
    scales: tuple[Scale, ...] = ()


def load_dataset(  # noqa: PLR0913
    root: Path,
    image_size: int,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    layout: Layout = FOLDERS,
    skip_bad: bool = False,
    bits: int | None = None,
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
        skip_bad: skip images that cannot be read instead of failing.
        bits: of `load_gray`.
        progress: called with (done, total) after each image.

    Raises:
        DataError: the folder is not as described, a class has too few images, or images cannot be read.
    """
    root, left_out = check_root(root), LeftOut()
    listing = list_dataset(root, layout, left_out)
    found, classes = listing.parts, tuple(listing.parts["train"])
    check_classes(root, found)
    fractions = {} if "val" in found else {"val": val_fraction}
    if listing.is_flat:
        fractions["test"] = test_fraction
    _check_counts(found["train"], 1 + len(fractions), left_out)
    group_of = find_groups(root, listing, layout.group)
    parts = divide(found, group_of, fractions, seed)
    samples = {part: to_samples(parts[part], classes) for part in PARTS if part in parts}
    scales: list[Scale] = []
    read = functools.partial(decode_row, root, bits=bits, scales=scales)
    splits, bad = _decode(read, samples, (image_size, image_size), progress)
    if bad and not skip_bad:
        raise unreadable(root, [fault for _, fault in bad], ", or skip them (--skip-bad)")
    _check_left(splits, classes, bad)
    return Dataset(
        root,
        classes,
        splits["train"],
        splits["val"],
        splits.get("test"),
        bad,
        **find_identical(splits),
        doubts=listing.doubts,
        notes=listing.notes + describe_groups(parts, group_of, fractions),
        group_of=group_of,
        left_out=str(left_out),
        scales=tuple(scales),
    )


def load_labeled(
    root: Path,
    classes: Sequence[str],
    height: int,
    width: int,
    *,
    bits: int | None = None,
    left_out: LeftOut | None = None,
    progress: ProgressCallback | None = None,
) -> Split:
    """Return the images that `list_labeled` finds, in its order; `bits` as in `load_gray`.

    Raises:
        DataError: as `list_labeled` raises it, or images cannot be read.
    """
    return _load_all(check_root(root), list_labeled(root, classes, left_out), (height, width), bits, progress)


def load_paths(
    root: Path,
    paths: Sequence[str],
    labels: Sequence[int],
    height: int,
    width: int,
    *,
    bits: int | None = None,
    progress: ProgressCallback | None = None,
) -> Split:
    """Return exactly these images, as a run lists them, in this order; `bits` as in `load_gray`.

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
    return _load_all(root, list(zip(paths, labels, strict=True)), (height, width), bits, progress)


def sha256_of_each(images: NDArray[np.uint8]) -> list[bytes]:
    """Return the sha256 of the pixels of each image, uint8 (N, H, W, 1)."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for chunk in chunks(images) for image in chunk]


def _load_all(
    root: Path, samples: list[Sample], size: tuple[int, int], bits: int | None, progress: ProgressCallback | None
) -> Split:
    splits, bad = _decode(functools.partial(decode_row, root, bits=bits), {"all": samples}, size, progress)
    if bad:
        raise unreadable(root, [fault for _, fault in bad])
    return splits["all"]


def _check_counts(train: Groups, least: int, left_out: LeftOut) -> None:
    """Raise DataError for classes with fewer images than parts."""
    sizes = {name: len(paths) for name, paths in train.items() if len(paths) < least}
    if few := [f"class {name!r} has {size} images, at least {least} needed" for name, size in sizes.items()]:
        raise DataError(f"too few images; add some or remove the class:{some_lines(few)}\n{left_out}".rstrip())


def _check_left(splits: Mapping[str, Split], classes: Sequence[str], bad: _Bad) -> None:
    """Raise DataError if a class has no image in train, or a part has none at all."""
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
    rows = [row for array in arrays.values() for row in array]
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
    read: _Read, paths: list[str], rows: list[NDArray[np.uint8]], progress: ProgressCallback | None
) -> list[str]:
    """Return the error of each file, or ""."""
    results: list[str] = []
    # Pillow releases the GIL while it decodes. Leaving the loop early, as Ctrl-C does, cancels the rest.
    with ThreadPoolExecutor() as pool:
        for result in pool.map(read, paths, rows):
            results.append(result)
            if len(results) % FORGET_EVERY == 0:
                forget_pages(rows[len(results) - 1])
            if progress is not None:
                progress(len(results), len(paths))
    return results


def decode_row(
    root: Path, path: str, row: NDArray[np.uint8], bits: int | None = None, scales: list[Scale] | None = None
) -> str:
    """Write the pixels of an image into `row`, uint8 (H, W, 1); return "" or the error."""
    if _printable(path) != path:
        return f"the name of {_printable(path)} is not UTF-8; rename it"
    try:
        row[...] = load_gray(root / path, row.shape[0], row.shape[1], bits, scales)
    except DataError as error:
        return str(error)
    return ""


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def unreadable(root: Path, faults: Sequence[str], otherwise: str = "") -> DataError:
    """Return the error about unreadable images of a folder, with another remedy `otherwise`."""
    cannot = f"{len(faults)} images in {root} cannot be read"
    return DataError(f"{cannot}; repair or remove these files{otherwise}:{some_lines(faults)}")
