"""Which images of a dataset, or of several folders together, are for training, for validation and for the test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecls.errors import DataError
from edgecls.images.alike import list_alike, list_combined
from edgecls.images.by_time import read_times, split_by_time
from edgecls.images.folders import Groups, Sample, check_classes, check_root, to_samples
from edgecls.images.grouping import describe_groups, divide, find_groups
from edgecls.images.label_tables import read_excluded
from edgecls.images.layout import Layout, Listing, leave_out, list_dataset
from edgecls.images.leftovers import LeftOut
from edgecls.images.parts import PARTS
from edgecls.messages.lists import counted, some, some_lines

_SHOWN = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Assignment:
    """The images of each part."""

    root: Path  # the folder that all paths are relative to, absolute
    classes: tuple[str, ...]  # in code-point order
    samples: dict[str, list[Sample]]  # part -> its images
    group_of: Mapping[str, str]  # path -> the group of the images that are in one
    notes: tuple[str, ...]  # sentences that say how the images were read and split
    doubts: tuple[str, ...]  # sentences that say why the folders may not be classes
    is_split_here: bool  # True if neither folders nor a table split the first folder


def assign(
    folders: Sequence[Path], layout: Layout, held_out: Mapping[str, float], seed: int, left_out: LeftOut
) -> Assignment:
    """Return the images of each part.

    The first folder is split as it is alone, so its test images stay test images whatever is added. Images of the
    others are split by time, unless their folders say which are for what. Classes are united by name.

    Args:
        folders: of datasets; `layout` describes the first of them, apart from `exclude`, which is for all.
        layout: what the folders do not say.
        held_out: the fractions for "val" and "test" where no folders say it.
        seed: of the split.
        left_out: counts what is not used.

    Raises:
        DataError: the folders are not as described, overlap, or a class has too few images.
    """
    roots = [check_root(folder) for folder in folders]
    root = find_common(roots)
    listings = _list(roots, root, layout, left_out)
    fractions = _missing(listings[0], held_out)
    places = [place_in(each, root) for each in roots]
    united = _unite(places, [listing.parts for listing in listings])
    check_classes(root, united)
    _check_counts(united["train"], 1 + len(fractions), left_out)
    group_of = find_groups(roots[0], listings[0], layout.group)
    first = divide(listings[0].parts, group_of, fractions, seed)
    others = {part: held_out[part] for part in first if part != "train"}
    divided = [(first, "is split as it is alone"), *_divide_new(roots, listings, others)]
    parts, classes = _unite(places, [own for own, _ in divided]), tuple(united["train"])
    return Assignment(
        root,
        classes,
        {part: to_samples(parts[part], classes) for part in PARTS if part in parts},
        {places[0] + path: group for path, group in group_of.items()},
        tuple(_describe(folders, listings, divided, describe_groups(first, group_of, fractions))),
        (*(doubt for listing in listings for doubt in listing.doubts), *list_alike(classes), *list_combined(classes)),
        listings[0].is_flat,
    )


def find_common(roots: Sequence[Path]) -> Path:
    """Return the folder that holds all these.

    Raises:
        DataError: there is none, or one of them lies in another.
    """
    for one in roots:
        if inner := [other for other in roots if other is not one and other.is_relative_to(one)]:
            raise DataError(f"{inner[0]} lies in {one}, so its images would count twice; name one of the two")
    try:
        common = Path(os.path.commonpath(roots))
    except ValueError as error:
        raise DataError(f"{some(roots)} are on different drives; move them to one") from error
    if check_root(common) != common:
        raise DataError(f"{some(roots)} are folders of one collection, of which only labeled has class folders")
    return common


def place_in(folder: Path, root: Path) -> str:
    """Return what paths in a folder begin with, relative to the root; "" for the root itself."""
    return "" if folder == root else f"{folder.relative_to(root).as_posix()}/"


def _list(roots: Sequence[Path], root: Path, layout: Layout, left_out: LeftOut) -> list[Listing]:
    """Return what is in each folder, without the images of `layout.exclude`."""
    if len(roots) == 1:
        return [list_dataset(root, layout, left_out)]
    layouts = [replace(layout, exclude=""), *[Layout()] * (len(roots) - 1)]
    listings = [list_dataset(folder, own, left_out) for folder, own in zip(roots, layouts, strict=True)]
    if not layout.exclude:
        return listings
    excluded = read_excluded(root, layout.exclude, left_out, roots)
    return [
        leave_out(listing, {path.removeprefix(place) for path in excluded if path.startswith(place)})
        for listing, place in zip(listings, (place_in(folder, root) for folder in roots), strict=True)
    ]


def _missing(listing: Listing, held_out: Mapping[str, float]) -> dict[str, float]:
    """Return the fractions of the parts that are to be taken from the training images."""
    wanted = {"val": held_out["val"], "test": held_out["test"] if listing.is_flat else 0}
    return {part: fraction for part, fraction in wanted.items() if fraction and part not in listing.parts}


def _divide_new(
    roots: Sequence[Path], listings: Sequence[Listing], fractions: dict[str, float]
) -> Iterator[tuple[Mapping[str, Groups], str]]:
    """Yield the parts of each folder but the first, and how they were made."""
    known = {name for name, paths in listings[0].parts["train"].items() if paths}
    for root, listing in zip(roots[1:], listings[1:], strict=True):
        classes = listing.parts["train"]
        if listing.is_flat:
            times, source = read_times(root, [path for paths in classes.values() for path in paths])
            parts = split_by_time(classes, fractions, times, known)
            yield parts, f"is split by {source}, the oldest first"
        else:
            yield listing.parts, "keeps the split of its folders"
        known |= {name for name, paths in classes.items() if paths}


def _unite(places: Sequence[str], parts: Iterable[Mapping[str, Groups]]) -> dict[str, Groups]:
    """Return part -> class -> paths of all folders; classes in code-point order."""
    united: dict[str, dict[str, list[str]]] = {}
    for place, each in zip(places, parts, strict=True):
        for part, classes in each.items():
            for name, paths in classes.items():
                united.setdefault(part, {}).setdefault(name, []).extend(place + path for path in paths)
    return {part: {name: united[part][name] for name in sorted(united[part])} for part in united}


def _count(parts: Mapping[str, Groups]) -> str:
    return some(f"{sum(map(len, parts[part].values())):,} {_SHOWN[part]} images" for part in PARTS if part in parts)


def _describe(
    folders: Sequence[Path],
    listings: Sequence[Listing],
    divided: Sequence[tuple[Mapping[str, Groups], str]],
    groups: Sequence[str],
) -> Iterator[str]:
    """Yield sentences that say how the folders were read and divided, and which classes only one of several has."""
    yield from (*listings[0].notes, *groups)
    if len(folders) == 1:
        return
    yield from (note for listing in listings[1:] for note in listing.notes)
    names = [{name for part in listing.parts.values() for name in part if part[name]} for listing in listings]
    folders_of = Counter(name for found in names for name in found)
    for folder, (parts, how) in zip(folders, divided, strict=True):
        yield f"{folder} {how}: {_count(parts)}."
    if groups:
        yield (
            f"Groups are of {folders[0]} alone: images of one group that also lie in another folder may be in two "
            "splits. If there are such images, put all into one folder."
        )
    for folder, found in zip(folders, names, strict=True):
        if own := sorted(name for name in found if folders_of[name] == 1):
            yield f"Only {folder} has images of {some(own)}."


def _check_counts(train: Groups, least: int, left_out: LeftOut) -> None:
    """Raise DataError for classes with fewer images than parts."""
    sizes = {name: len(paths) for name, paths in train.items() if len(paths) < least}
    if few := [f"class {name!r} has {counted(size, 'image')}, at least {least} needed" for name, size in sizes.items()]:
        raise DataError(f"too few images; add some or remove the class:{some_lines(few)}\n{left_out}".rstrip())
