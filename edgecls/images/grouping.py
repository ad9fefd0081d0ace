"""Groups of images that belong together, such as those of one part, patient or video: none stands in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.images.folders import Groups, to_nfc
from edgecls.images.label_tables import read_column
from edgecls.images.layout import Listing, match_paths
from edgecls.images.parts import TABLE_SUFFIXES
from edgecls.images.splitting import split_groups
from edgecls.images.tables import is_nothing
from edgecls.messages.lists import counted, some
from edgecls.messages.numbers import percent

NO_GROUPS, BY_FOLDER = "none", "folder"


def find_groups(root: Path, listing: Listing, group: str = "") -> dict[str, str]:
    """Return path -> group of the images that are in one.

    Args:
        root: of the dataset.
        listing: its images, with the groups of a table.
        group: the user's own words: a regular expression whose first group is found in the path, "folder" (inside the
            class folder), a table with a column of groups, "none", or "" for the groups of the listing.

    Raises:
        DataError: not all images have such a group. ConfigError: it is no regular expression.
    """
    if group in ("", NO_GROUPS):
        return {} if group else dict(listing.group_of)
    paths = [path for classes in listing.parts.values() for found in classes.values() for path in found]
    if group == BY_FOLDER:
        return _by_folder(root, listing)
    if group.lower().endswith(TABLE_SUFFIXES):
        found = read_column(root, group, "group")
        if grouped := {path: found[path] for path in paths if not is_nothing([found.get(path, "")])}:
            return grouped
        raise DataError(f"--group {group} puts no image in a group; fill its column of groups, or leave out --group")
    return match_paths(paths, group, "--group")


def _by_folder(root: Path, listing: Listing) -> dict[str, str]:
    found: dict[str, str] = {}
    bare: list[str] = []
    for name, path in ((n, p) for classes in listing.parts.values() for n, paths in classes.items() for p in paths):
        folders = path.split("/")[:-1]
        found[path] = folders[-1] if folders else ""
        # A group may be called like a class: 1/1/a.png.
        if not folders or (to_nfc(folders[-1]) == name and list(map(to_nfc, folders)).count(name) == 1):
            bare.append(path)
    if bare:
        raise DataError(
            f"--group folder: {len(bare)} of {len(found)} images lie in no folder inside their class folder, such as "
            f"{some(bare, 3)} in {root}; move them into one, or give a regular expression or a table in place of folder"
        )
    return found


def divide(
    parts: Mapping[str, Groups], group_of: Mapping[str, str], fractions: Mapping[str, float], seed: int
) -> dict[str, Groups]:
    """Return the given parts, and those in `fractions`, which are taken from train; no group is in two of them.

    Raises:
        DataError: a group is in two of the given parts, or the groups leave no image for a part.
    """
    check_groups(parts, group_of)
    if group_of and fractions:
        return {**parts, **split_by_group(parts["train"], fractions, seed, group_of)}
    return {**parts, **split_groups(parts["train"], fractions, seed)}


def split_by_group(
    classes: Groups, fractions: Mapping[str, float], seed: int, group_of: Mapping[str, str]
) -> dict[str, Groups]:
    """Return train and the parts in `fractions`, no group in two of them.

    The groups are placed one by one, the largest first, where the images of its classes are missing most, as
    scikit-learn's StratifiedGroupKFold does for folds. Images without a group are placed alone.

    Raises:
        DataError: the groups leave no image for a part.
    """
    counts = _count(classes, group_of)
    part_of = _place(counts, {"train": 1 - sum(fractions.values()), **fractions}, seed)
    _repair(part_of, counts, fractions)
    for part in fractions:
        if part not in part_of.values():
            largest = max(int(count.sum()) for count in counts.values())
            raise DataError(
                f"{counted(len(counts), 'group')}, the largest of {largest} images, leave none for {part}; give a "
                "--group that makes more groups, or add images"
            )
    return {
        part: {
            name: [path for path in paths if part_of[group_of.get(path) or f"\0{path}"] == part]
            for name, paths in classes.items()
        }
        for part in ("train", *fractions)
    }


def _count(classes: Groups, group_of: Mapping[str, str]) -> dict[str, NDArray[np.int64]]:
    """Return group -> its images of each class, int64 (C,); a path behind a NUL stands for an image without a group."""
    counts: dict[str, NDArray[np.int64]] = {}
    for place, paths in enumerate(classes.values()):
        for path in paths:
            key = group_of.get(path) or f"\0{path}"
            counts.setdefault(key, np.zeros(len(classes), np.int64))[place] += 1
    return counts


def _place(counts: Mapping[str, NDArray[np.int64]], wanted: Mapping[str, float], seed: int) -> dict[str, str]:
    total = np.maximum(sum(counts.values()), 1)
    missing = {part: fraction * total for part, fraction in wanted.items()}

    def key(name: str) -> tuple[int, bytes]:
        digest = hashlib.sha256(f"{seed}\0{to_nfc(name)}".encode("utf-8", "surrogatepass")).digest()
        return -int(counts[name].max()), digest

    part_of = {}
    for name in sorted(counts, key=key):
        count = counts[name]
        # The rise of the sum of squared shortfalls, each as a fraction of the class.
        rise = {part: float(((count - 2 * short) * count / total**2).sum()) for part, short in missing.items()}
        part_of[name] = min(rise, key=rise.__getitem__)
        missing[part_of[name]] = missing[part_of[name]] - count
    return part_of


def _repair(part_of: dict[str, str], counts: Mapping[str, NDArray[np.int64]], fractions: Mapping[str, float]) -> None:
    """Move small groups until train has every class, and the other parts those that train can spare."""
    smallest = sorted(counts, key=lambda name: (int(counts[name].sum()), name))
    for place in range(len(next(iter(counts.values())))):
        having = [name for name in smallest if counts[name][place]]
        if having and not any(part_of[name] == "train" for name in having):
            part_of[having[0]] = "train"
        for part in fractions:
            if any(part_of[name] == part for name in having):
                continue
            left = sum(counts[name] > 0 for name in counts if part_of[name] == "train")
            spare = (name for name in having if part_of[name] == "train" and np.all((left > 1) | (counts[name] == 0)))
            if name := next(spare, ""):
                part_of[name] = part


def check_groups(parts: Mapping[str, Groups], group_of: Mapping[str, str]) -> None:
    """Raise DataError if a group stands in two of the splits that the dataset itself has."""
    parts_of: dict[str, set[str]] = {}
    for part, classes in parts.items():
        for paths in classes.values():
            for path in paths:
                if group := group_of.get(path):
                    parts_of.setdefault(group, set()).add(part)
    if torn := sorted(group for group, found in parts_of.items() if len(found) > 1):
        raise DataError(
            f"{len(torn)} of {len(parts_of)} groups stand in two or more of {some(parts)}, such as {some(torn)}; move "
            "their images into one of them, or pass one folder of class folders, which is split by group"
        )


def describe_groups(
    parts: Mapping[str, Groups], group_of: Mapping[str, str], fractions: Mapping[str, float]
) -> tuple[str, ...]:
    """Return how many groups there are and how evenly they could be divided, in a sentence or two; () without any."""
    if not group_of:
        return ()
    paths = [path for classes in parts.values() for found in classes.values() for path in found]
    sizes = Counter(group_of[path] for path in paths if group_of.get(path))
    alone = len(paths) - sizes.total()
    text = f"{counted(len(sizes), 'group')} of {min(sizes.values())} to {max(sizes.values()):,} images"
    text += f"; {alone:,} images are in none" if alone else ""
    if max(sizes.values()) == 1:
        return (f"{text}: no group has two images, so --group changes nothing.",)
    total = {name: sum(len(classes[name]) for classes in parts.values()) for name in parts["train"]}
    shares = []
    for part, wanted in fractions.items():
        size = sum(map(len, parts[part].values()))
        off = {name: len(parts[part][name]) / max(1, count) - wanted for name, count in total.items()}
        worst = max(off, key=lambda name: abs(off[name]))
        shares.append(
            f"{part} has {percent(size / max(1, len(paths)))} of the images ({percent(wanted, 0)} wanted; {worst} "
            f"{percent(wanted + off[worst])})"
        )
    return (f"{text}. No group is in two splits{': ' if shares else ''}{', '.join(shares)}.",)
