"""Where the images of a dataset lie: its parts, class folders and files.

A folder of class folders is "flat"; one with a `train` folder that holds folders is "pre-split". Nothing that looks
like data is left out without a word: what would not be used is an error, or counted in a `LeftOut`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgecls.errors import DataError
from edgecls.images.leftovers import LeftOut
from edgecls.images.split_names import are_portions, class_in_names, find_splits, read_role
from edgecls.images.walk import is_image, keep_files, read_head, walk, walk_images
from edgecls.messages.lists import some
from edgecls.messages.path_kinds import describe

Groups = dict[str, list[str]]  # class -> posix paths relative to the dataset's root
Sample = tuple[str, int]  # posix path relative to the root, index of the class

PARTS = ("train", "val", "test")
_DEEPEST = 8
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xls", ".json", ".jsonl", ".parquet", ".xml", ".txt")


def to_nfc(name: str) -> str:
    """Return the name in the one spelling of its characters that is compared and sorted: Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def check_root(root: Path) -> Path:
    """Return the absolute path of a dataset's folder.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        cause = f"it is {describe(root) or 'a file'}" if root.exists() else "there is no such folder"
        raise DataError(f"cannot read images from {root}: {cause}; pass a folder of class folders")
    return root.resolve()


def find_parts(root: Path, left_out: LeftOut | None = None) -> dict[str, Path]:
    """Return the folder of class folders of each part; of a flat dataset, the root as train.

    Args:
        root: the dataset's folder.
        left_out: counts what lies beside the parts.

    Raises:
        DataError: folders or images lie where they would not be used, or train is missing.
    """
    folders, _ = _list_folder(root)
    if "train" not in folders or not _list_folder(root / "train")[0]:
        return {"train": root}
    left_out = left_out or LeftOut()
    _, files = _list_folder(root, left_out)
    _check_no_stray(root, files)
    parts = {name: root / name for name in PARTS if name in folders}
    unused = [name for name in folders if name not in PARTS and any(walk_images(root / name, left_out))]
    if unused:
        raise DataError(
            f"{root} has folders of images beside train that would not be used: {some(unused)}; rename a validation "
            "folder (valid, validation) to val, and move other folders elsewhere; if train is a class itself, move its "
            "images out of the folders in it"
        )
    return parts


def list_images(root: Path, folder: Path, left_out: LeftOut | None = None) -> Groups:
    """Return the images of each class folder in `folder`, classes and paths in NFC code-point order.

    Folders inside a class folder belong to that class. Links are followed. Whether a file is an image is not looked at,
    so that a .gif or .heic is reported and not passed over.

    Args:
        root: that the paths are relative to.
        folder: in or below it.
        left_out: counts the other files.

    Raises:
        DataError: `folder` has no class folders, or such as are splits, two of one name or one of an unusable name, or
        images beside them.
    """
    left_out = left_out or LeftOut()
    names, files = _list_folder(folder, left_out)
    _check_no_stray(folder, files)
    for name in files:
        left_out.add_unknown(name)
    classes: dict[str, str] = {}
    for name in names:
        # Cc, Zl, Zp: every line break (exported files list one label a line). Cs: bytes that are not UTF-8.
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
            raise DataError(f"class folder {name!r} in {folder} has control or non-UTF-8 characters; rename it")
        if to_nfc(name) in classes:
            raise DataError(f"two class folders in {folder} are named {to_nfc(name)!r} in Unicode's NFC; rename one")
        classes[to_nfc(name)] = name
    if not classes:
        raise DataError(f"{folder} has no class folders; make one folder of images for each class")
    _check_no_splits(folder, names)
    groups = {}
    for key in sorted(classes):
        images = [
            (directory / name).relative_to(root).as_posix()
            for directory, _, files in walk(folder / classes[key], left_out)
            for name in keep_files(files, left_out)
        ]
        groups[key] = sorted(images, key=lambda path: (to_nfc(path), path))
    return groups


def check_classes(root: Path, found: Mapping[str, Groups]) -> None:
    """Raise DataError unless train has two classes or more, and every part some images, of the classes of train alone.

    A class that val or test lack is no error: it cannot be judged there, and `training.outcome.warnings` says so.
    """
    classes = list(found["train"])
    if len(classes) < 2:
        only = root / classes[0]
        inner = [f"{only / name}" for name in _list_folder(only)[0]] if only.is_dir() else []
        raise DataError(
            f"{root} has one class folder, {classes[0]!r}, and a classifier needs 2 or more; add a class or, if that "
            f"folder holds the class folders{f' (it holds {some(inner)})' if inner else ''}, pass it instead"
        )
    for part, groups in found.items():
        present = {name for name, paths in groups.items() if paths}
        if unknown := sorted(present - set(classes)):
            missing = sorted(set(classes) - present)
            raise DataError(
                f"{part} and train in {root} have different class folders: missing in {part} {some(missing) or 'none'}"
                f", missing in train {some(unknown)}; make them the same"
            )
        if part != "train" and not present:
            raise DataError(f"{root / part} holds no image; add some, or remove the folder")


def list_labeled(root: Path, classes: Sequence[str], left_out: LeftOut | None = None) -> list[Sample]:
    """Return the images of root/test if it is there, else of root/val, else of root, labeled by position in `classes`.

    Folders are matched to `classes` by name, so the order of either does not matter. Classes may have no image there.

    Raises:
        DataError: a folder of images is no class, or there is no image.
    """
    root = check_root(root)
    names = [to_nfc(name) for name in classes]
    # A class may really be called test.
    parts = [root / part for part in PARTS if part not in names and (root / part).is_dir()]
    if parts == [root / "train"]:
        raise DataError(f"{root} has no test and no val folder to score on; add one, or pass {parts[0]}")
    folder = parts[-1] if parts else root
    groups = list_images(root, folder, left_out)
    unknown = [name for name in groups if name not in names and groups[name]]
    if unknown or not any(groups.values()):
        missing = [name for name in names if not groups.get(name)]
        raise DataError(
            f"the class folders of {folder} are not the classes of the model: without images {some(missing)}, unknown "
            f"to the model {some(unknown)}; the folders are {some(groups)}, the model's classes {some(names)}: rename, "
            "add or remove folders until the names are the same"
        )
    return to_samples(groups, names)


def to_samples(groups: Groups, classes: Sequence[str]) -> list[Sample]:
    """Return every image with the position of its class in `classes`."""
    return [(path, label) for label, name in enumerate(classes) for path in groups.get(name, ())]


def list_doubts(root: Path, folder: Path, groups: Groups) -> tuple[str, ...]:
    """Return what makes it doubtful that the class folders in `folder` are classes, a sentence each."""
    depth, names = len(folder.relative_to(root).parts) + 1, list(groups)
    # What lies right in each class folder: names of folders, and "" for images.
    below = [{part[0] if part[1:] else "" for part in (path.split("/")[depth:] for path in groups[n])} for n in names]
    found = []
    if all(inner == below[0] for inner in below) and len(below[0]) > 1 and "" not in below[0]:
        found.append(
            f"No class folder in {folder} holds an image itself, and all hold the same folders: "
            f"{some(sorted(below[0]))}. The classes are {some(names)}; if those folders are the classes, pass one "
            f"folder above them, such as {folder / names[0]}"
        )
    if are_portions(names):
        found.append(
            f"The classes {some(names)} are called like portions of a data set; make sure that they are classes"
        )
    return tuple(found)


def _check_no_splits(folder: Path, names: Sequence[str]) -> None:
    # Listed only where it matters, as a class folder may hold a million files.
    asked = names if are_portions(names) else [name for name in names if read_role(name)]
    inside = {name: frozenset(_list_folder(folder / name)[0]) for name in asked}
    splits = find_splits(names, inside)
    if not splits:
        return
    if inside.get("train"):
        raise DataError(f"{folder} holds {some(splits)}, which are splits and no classes; pass {folder} itself")
    bare = [name for name in splits if not inside.get(name)]
    moves = list(_list_moves(folder, splits))
    remedy = "name the folders train, val and test, with the class folders right inside"
    if moves:
        remedy += f": move {some(moves)}"
    if bare:
        remedy += f". {some(bare)} hold no class folders. {_where_labels_are(folder, bare)}"
    raise DataError(
        f"{folder} holds {some(splits)}, which are splits or portions of a data set and no classes; "
        f"{remedy.rstrip('. ')}. If they are classes, give them other names"
    )


def _list_moves(folder: Path, splits: Sequence[str]) -> Iterator[str]:
    """Yield what to move where, so that the class folders of each split lie right inside train, val and test."""
    for name in splits:
        inner, role = folder / name, read_role(name)
        # Not deeper: links may lead in circles.
        while len(held := _list_folder(inner)[0]) == 1 and len(inner.parts) < len(folder.parts) + _DEEPEST:
            inner /= held[0]
        if held and role and inner != folder / role:
            yield f"{inner} to {folder / role}"


def _where_labels_are(folder: Path, bare: Sequence[str] = ()) -> str:
    """Return where the labels may be, if not in the names of folders, and what to do then; "" if nowhere."""
    places = [folder, *(folder / name for name in bare)]
    tables = [
        each.name for place in places for each in sorted(place.iterdir()) if each.suffix.lower() in TABLE_SUFFIXES
    ]
    text = "Make a folder for each class and move its images into it."
    for place in places:
        images = [name for name in _list_folder(place)[1] if _is_image_in(place, name)]
        if classes := class_in_names(images):
            return f"Their file names seem to begin with the class ({some(classes)}), as {images[0]} does. {text}"
    if tables:
        return f"Labels in a table ({some(tables)}) are not read yet. {text}"
    return text if bare else ""


def _list_folder(folder: Path, left_out: LeftOut | None = None) -> tuple[list[str], list[str]]:
    left_out = left_out or LeftOut()
    return next(((folders, keep_files(files, left_out)) for _, folders, files in walk(folder, left_out)), ([], []))


def _is_image_in(folder: Path, name: str) -> bool:
    return is_image(name, lambda: read_head(folder / name))


def _check_no_stray(folder: Path, files: Sequence[str]) -> None:
    stray = [name for name in files if _is_image_in(folder, name)]
    if stray:
        raise DataError(
            f"{len(stray)} images lie outside class folders and would not be used, e.g. {str(folder / stray[0])!r}; "
            f"move them into the folder of their class or elsewhere. {_where_labels_are(folder)}".rstrip(". ")
        )
