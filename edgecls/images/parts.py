"""The folders of training, validation and test images in a dataset, and what to type where they are not clear."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecls.errors import ConfigError, DataError
from edgecls.images.archive import is_folder
from edgecls.images.leftovers import LeftOut
from edgecls.images.split_names import (
    are_portions,
    class_in_names,
    class_pattern,
    find_splits,
    is_collection,
    match_roles,
    read_role,
)
from edgecls.images.walk import is_image_in, list_folder, walk_images
from edgecls.messages.lists import counted, some

PARTS = ("train", "val", "test")
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".lst")
NO_PARTS = "none"
_DEEPEST = 8


def find_parts(root: Path, left_out: LeftOut | None = None, parts: str = "") -> dict[str, Path]:
    """Return the folder of class folders of each part; of a flat dataset, the root as train.

    The names of folders tell the parts: train, val and test, and what else people call them (`split_names`).

    Args:
        root: the dataset's folder.
        left_out: counts what lies beside the parts.
        parts: the user's own words, "train=FOLDER,val=FOLDER,test=FOLDER", or "none" if all folders are classes.

    Raises:
        DataError: folders or images lie where they would not be used. ConfigError: `parts` is not understood.
    """
    if parts == NO_PARTS:
        return {"train": root}
    left_out = left_out or LeftOut()
    folders, _ = list_folder(root)
    named = _parse(parts, root) if parts else match_roles(folders, _look_inside(root, folders))
    found = {part: _descend(root / name, part) for part, name in named.items()}
    if not named or (not parts and not list_folder(found["train"])[0]):
        return {"train": root}
    _, files = list_folder(root, left_out)
    used = {Path(name).parts[0] for name in named.values()}
    others = [name for name in folders if name not in used]
    if parts:
        for name in others:
            left_out.add(f"in {name} (not named by --splits)", sum(1 for _ in walk_images(root / name, left_out)))
        return found
    check_no_stray(root, files)
    if unused := [name for name in others if any(walk_images(root / name, left_out))]:
        raise DataError(
            f"{root} has folders of images beside {named['train']} that would not be used: {some(unused)}. Leave them "
            f"out with {_option(named)}; or, if all of them are classes, pass --splits {NO_PARTS}"
        )
    return found


def describe_parts(root: Path, parts: dict[str, Path]) -> str:
    """Return how the folders were read, in a sentence; "" if they are called train, val and test."""
    read = [f"{path.relative_to(root)} as {part}" for part, path in parts.items() if path not in (root, root / part)]
    return f"Read {', '.join(read)}." if read else ""


def _parse(parts: str, root: Path) -> dict[str, str]:
    named = dict(part.strip().split("=", 1) for part in parts.split(",") if "=" in part)
    if not named or len(named) != parts.count(",") + 1 or not set(named) <= set(PARTS) or "train" not in named:
        raise ConfigError(
            f"--splits must be like train=FOLDER,val=FOLDER,test=FOLDER, with train at least, or {NO_PARTS}; "
            f"received {parts!r}"
        )
    if missing := [name for name in named.values() if not is_folder(root / name)]:
        raise DataError(f"--splits: {root} has no folder {some(missing)}; its folders are {some(list_folder(root)[0])}")
    return {part: named[part] for part in PARTS if part in named}


def _look_inside(folder: Path, names: Sequence[str]) -> dict[str, frozenset[str]]:
    # Listed only where it matters, as a class folder may hold a million files.
    asked = names if are_portions(names) else [name for name in names if read_role(name)]
    return {name: frozenset(list_folder(folder / name)[0]) for name in asked}


def _descend(folder: Path, part: str) -> Path:
    """Return the folder of class folders: archives often hold training_set/training_set/cat or train/images/cat."""
    for _ in range(_DEEPEST):  # links may lead in circles
        inner, files = list_folder(folder)
        again = len(inner) == 1 and not files and (read_role(inner[0]) == part or is_collection(inner[0]))
        if not again or not list_folder(folder / inner[0])[0]:
            break
        folder /= inner[0]
    return folder


def check_no_splits(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError, with what to type, if folders side by side are splits and no classes."""
    inside = _look_inside(folder, names)
    if not (splits := find_splits(names, inside)):
        return
    bare = [name for name in splits if not inside.get(name)]
    remedy = f"Say which is which, as in {_option(_guess(splits))}"
    if bare:
        remedy = f"{some(bare)} hold no class folders. {where_labels_are(folder, bare)}"
    raise DataError(
        f"{folder} holds {some(splits)}, which are splits or portions of a data set and no classes. "
        f"{remedy.rstrip('. ')}. If they are classes, pass --splits {NO_PARTS}"
    )


def _guess(splits: Sequence[str]) -> dict[str, str]:
    """Return an example of which folder may be which part."""
    named: dict[str, str] = {}
    for name in splits:
        named.setdefault(read_role(name), name)
    others = [name for name in splits if name not in named.values() or not read_role(name)]
    named.pop("", None)
    for part in ("train", "test"):
        if part not in named and others:
            named[part] = others.pop(0)
    return {part: named[part] for part in PARTS if part in named}


def _option(named: dict[str, str]) -> str:
    return f"--splits {shlex.quote(','.join(f'{part}={name}' for part, name in named.items()))}"


def check_no_stray(folder: Path, files: Sequence[str]) -> None:
    """Raise DataError, with what to do, if images lie right in a folder of class folders."""
    if stray := [name for name in files if is_image_in(folder, name)]:
        text = (
            f"{counted(len(stray), 'image lies', 'images lie')} outside class folders and would not be used, e.g. "
            f"{str(folder / stray[0])!r}; move them into the folder of their class or elsewhere. "
        )
        if not list_folder(folder)[0]:
            text += f"If {folder.name} is a class itself, pass the folder above it, {folder.parent}. "
        raise DataError((text + where_labels_are(folder)).rstrip(". "))


def where_labels_are(folder: Path, bare: Sequence[str] = ()) -> str:
    """Return where the labels may be, if not in the names of folders, and what to type then; "" if nowhere."""
    places = [folder, *(folder / name for name in bare)]
    for place in places:
        images = [name for name in list_folder(place)[1] if is_image_in(place, name)]
        if classes := class_in_names(images):
            pattern = shlex.quote(class_pattern(classes, images))
            return (
                f"Their file names seem to begin with the class ({some(classes)}), as {images[0]} does. If so, pass "
                f"{place} and --class-from {pattern}"
            )
    if tables := list(_find_tables(places)):
        names = shlex.quote(",".join(str(table) for table in tables))
        return f"If the labels are in {some(table.name for table in tables)}, pass --labels {names}"
    return "Make a folder for each class and move its images into it." if bare else ""


def _find_tables(places: Sequence[Path]) -> Iterator[Path]:
    """Yield tables beside the images; those that are called like a sample to fill in hold no labels."""
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            known = path.suffix.lower() in TABLE_SUFFIXES and not path.name.lower().startswith(("readme", "license"))
            if known and "submission" not in path.name.lower() and path.is_file():
                yield path
