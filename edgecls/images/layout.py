"""The images of a dataset by part and class, whatever says it: folders, a table or file names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from edgecls.errors import ConfigError, DataError
from edgecls.images.folders import (
    ALL,
    Groups,
    Sample,
    check_class,
    check_known,
    check_root,
    list_doubts,
    list_images,
    list_labeled,
    to_nfc,
    to_samples,
)
from edgecls.images.image_names import folder_part
from edgecls.images.label_tables import Labeled, read_excluded, read_labels
from edgecls.images.leftovers import LeftOut
from edgecls.images.parts import NO_PARTS, PARTS, describe_parts, find_parts
from edgecls.images.walk import is_image_in, list_folder, walk_images
from edgecls.messages.lists import counted, some


@dataclass(frozen=True)
class Layout:
    """How the user says what the folders alone do not say; "" (or no table) for what they say."""

    labels: tuple[str, ...] = ()  # paths of tables with the class of each image
    columns: str = ""  # which of their columns says what: see `labels.read_labels`
    class_from: str = ""  # regular expression whose first group is the class in an image's path
    splits: str = ""  # which folders are train, val and test: see `parts.find_parts`
    group: str = ""  # which images belong together: see `grouping.find_groups`
    exclude: str = ""  # path of a table of images to leave out: see `labels.read_excluded`

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that contradict each other or are not understood."""
        if self.labels and self.class_from:
            raise ConfigError("--labels and --class-from both say the class of each image; give one of them")
        if self.columns and not self.labels:
            raise ConfigError("--columns is about the table of --labels, which is missing; give both")
        if (self.labels or self.class_from) and self.splits not in ("", NO_PARTS):
            raise ConfigError("--splits is about folders of class folders; give it without --labels and --class-from")
        if self.class_from:
            compile_pattern(self.class_from, "--class-from")


FOLDERS = Layout()


class ScoredImages(NamedTuple):
    """The images that a file is scored on."""

    samples: list[Sample]
    split: str  # "test", "val" or "all"
    notes: tuple[str, ...]  # sentences that say how they were read


@dataclass(frozen=True)
class Listing:
    """The images of a dataset.

    Attributes:
        group_of: path -> the group, of each image of which the table says it.
    """

    parts: dict[str, Groups]  # "train" and, if they are given, "val" and "test" -> the images of each class
    is_flat: bool  # True if nothing says which image is for what
    group_of: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # sentences that say how they were read
    doubts: tuple[str, ...] = ()  # sentences that say why the folders may not be classes


def list_dataset(root: Path, layout: Layout = FOLDERS, left_out: LeftOut | None = None) -> Listing:
    """Return the images of a dataset without those of `layout.exclude`.

    Args:
        root: of `check_root`.
        layout: what the folders do not say.
        left_out: counts what is not used.

    Raises:
        DataError: what is where is not clear, with what to type; or images would not be used.
    """
    left_out = left_out or LeftOut()
    listing = _list_all(root, layout, left_out)
    if not layout.exclude:
        return listing
    excluded = read_excluded(root, layout.exclude, left_out)
    return leave_out(listing, excluded)


def leave_out(listing: Listing, excluded: Container[str]) -> Listing:
    """Return a listing without these paths."""
    parts = {
        part: {name: [path for path in paths if path not in excluded] for name, paths in groups.items()}
        for part, groups in listing.parts.items()
    }
    return replace(listing, parts=parts)


def list_scored(
    root: Path, classes: Sequence[str], layout: Layout = FOLDERS, left_out: LeftOut | None = None
) -> ScoredImages:
    """Return the images that a file is scored on, labeled by position in `classes`, and how they were read.

    They are those of `list_labeled` or, if `layout` says more than the folders, its test images; without a test split
    its validation images, and all if nothing is split.

    Raises:
        DataError: as `list_labeled` and `list_dataset` raise it.
    """
    if layout == FOLDERS:
        samples, part = list_labeled(root, classes, left_out)
        return ScoredImages(samples, part, _describe_scored(root, samples, part))
    listing = list_dataset(check_root(root), layout, left_out)
    part = [name for name in PARTS if name in listing.parts][-1]
    if part == "train" and not listing.is_flat:
        raise DataError(
            f"{root} has no test and no validation images to score on; say which they are, or use all with "
            f"--splits {NO_PARTS}"
        )
    names, found = [to_nfc(name) for name in classes], listing.parts[part]
    part = ALL if listing.is_flat else part
    which = "" if part == ALL else f"{part} "
    check_known(found, names, f"the classes of the {which}images in {root}", "rename classes or leave images out")
    samples = to_samples(found, names)
    return ScoredImages(samples, part, (*listing.notes, *_describe_scored(root, samples, part)))


def _describe_scored(root: Path, samples: Sequence[Sample], part: str) -> tuple[str, ...]:
    if part == ALL:
        return ()
    name = "validation images are scored, as it has no test" if part == "val" else "test images are scored"
    return (f"{root}: its {len(samples):,} {name}.",)


def _list_all(root: Path, layout: Layout, left_out: LeftOut) -> Listing:
    if layout.labels:
        images, notes = read_labels(root, layout.labels, layout.columns, left_out)
        return _arrange(images, layout, notes)
    if layout.class_from:
        return _arrange(_match_classes(root, layout.class_from, left_out), layout, [])
    folders = find_parts(root, left_out, layout.splits)
    for part, folder in folders.items():
        _check_labeled(root, folder, part, folders)
    check = layout.splits != NO_PARTS
    found = {part: list_images(root, folder, left_out, check=check) for part, folder in folders.items()}
    return Listing(
        found,
        is_flat=folders["train"] == root,
        notes=tuple(filter(None, [describe_parts(root, folders)])),
        doubts=list_doubts(root, folders["train"], found["train"]),
    )


def compile_pattern(text: str, option: str) -> re.Pattern[str]:
    """Return the regular expression.

    Raises:
        ConfigError: it is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"{option} {text!r} is no regular expression ({error}); correct it") from error


def match_paths(paths: Iterable[str], text: str, option: str) -> dict[str, str]:
    """Return what a pattern finds in each path: its first group, or all of it if it has none.

    Raises:
        DataError: it does not match all of them. ConfigError: it is no pattern.
    """
    pattern = compile_pattern(text, option)
    found = {path: pattern.search(to_nfc(path)) for path in paths}
    if missed := [path for path, match in found.items() if match is None or not match[min(1, pattern.groups)]]:
        raise DataError(
            f"{option} {text!r} finds nothing in the paths of {len(missed)} of {len(found)} images, such as "
            f"{some(missed, 3)}; pass a folder without them, or a pattern that finds something in all paths"
        )
    return {path: match[min(1, pattern.groups)] for path, match in found.items() if match}


def _match_classes(root: Path, text: str, left_out: LeftOut) -> list[Labeled]:
    paths = [path.relative_to(root).as_posix() for path in walk_images(root, left_out)]
    if not paths:
        raise DataError(f"{root} holds no image; pass the folder of images")
    return [
        Labeled(path, name, folder_part(path), "") for path, name in match_paths(paths, text, "--class-from").items()
    ]


def _arrange(images: list[Labeled], layout: Layout, notes: list[str]) -> Listing:
    """Return the listing of images whose class a table or their names say."""
    names = [part for part in PARTS if any(image.part == part for image in images)]
    if layout.splits == NO_PARTS or "train" not in names:
        names = []
    if names and (others := [image.path for image in images if not image.part]):
        raise DataError(
            f"{counted(len(others), 'image is', 'images are')} in no split, such as {some(others, 3)}, and others are "
            f"in {some(names)}; say it for all, or split again with --splits {NO_PARTS}"
        )
    classes = sorted({to_nfc(image.label) for image in images})
    for name in classes:
        check_class(name, f"the class {name!r}")
    parts: dict[str, Groups] = {part: {name: [] for name in classes} for part in names or ["train"]}
    for image in sorted(images, key=lambda each: (to_nfc(each.path), each.path)):
        parts[image.part if names else "train"][to_nfc(image.label)].append(image.path)
    # A class that train lacks is an error later on, as with folders.
    parts["train"] = {name: paths for name, paths in parts["train"].items() if paths}
    counts = ", ".join(f"{sum(map(len, groups.values())):,} {part}" for part, groups in parts.items())
    notes = [*notes, f"The classes are {some(classes)}{f'; {counts} images' if names else ''}."]
    return Listing(parts, not names, {image.path: image.group for image in images if image.group}, tuple(notes))


def _check_labeled(root: Path, folder: Path, part: str, folders: dict[str, Path]) -> None:
    """Raise DataError if the images of val or test lie in no class folders."""
    names, files = list_folder(folder)
    if part == "train" or names or not any(is_image_in(folder, name) for name in files):
        return
    kept = ",".join(f"{other}={path.relative_to(root)}" for other, path in folders.items() if other != part)
    raise DataError(
        f"the images in {folder} lie in no class folders, so they cannot be scored. If they have no labels, leave them "
        f"out with --splits {shlex.quote(kept)}"
    )
