"""Where the images lie: parts, class folders and files of a dataset, by name alone. Imports no image library.

A folder of class folders is "flat"; one with a `train` folder that holds folders is "pre-split". Nothing that looks
like data is left out without a word: what would not be used is an error.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgecls.errors import DataError
from edgecls.path_kinds import describe

Groups = dict[str, list[str]]  # class -> posix paths relative to the dataset's root

PARTS = ("train", "val", "test")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp")
# Every other file in a class folder is tried as an image, so that a .gif or .heic is reported and not passed over.
NON_IMAGE_SUFFIXES = (".txt", ".csv", ".json", ".xml", ".md", ".db", ".ini", ".yaml", ".yml", ".html", ".log")


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


def find_parts(root: Path) -> dict[str, Path]:
    """Return the folder of class folders of each part; of a flat dataset, the root as train.

    Raises:
        DataError: folders or images lie where they would not be used, or train is missing.
    """
    folders, files = _list_folder(root)
    if not _has_folders(root / "train"):
        # "Train" and "Test" would be two classes, and training on them would even look well.
        split_like = [n for n in folders if n.lower() in (*PARTS, "training") and _has_folders(root / n)]
        if split_like:
            raise DataError(
                f"{root} looks split already, by {split_like}, but has no folder named train that holds class folders; "
                "name its folders train, val and test"
            )
        return {"train": root}
    _check_no_stray(root, files)
    parts = {name: root / name for name in PARTS if name in folders}
    unused = [name for name in folders if name not in PARTS and any(_walk_images(root / name))]
    if unused:
        raise DataError(
            f"{root} has folders of images beside train that would not be used: {unused}; rename a validation folder "
            "(valid, validation) to val, and move other folders elsewhere"
        )
    return parts


def list_images(root: Path, folder: Path) -> Groups:
    """Return the images of each class folder in `folder`, classes and paths in NFC code-point order.

    Folders inside a class folder belong to that class. Links are followed. Whether a file is an image is not looked at.

    Raises:
        DataError: `folder` has no class folders, two of one name or one of an unusable name, or images beside them.
    """
    names, files = _list_folder(folder)
    _check_no_stray(folder, files)
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
    groups = {}
    for key in sorted(classes):
        images = [path.relative_to(root).as_posix() for path in _walk_images(folder / classes[key])]
        groups[key] = sorted(images, key=lambda path: (to_nfc(path), path))
    return groups


def check_classes(root: Path, found: Mapping[str, Groups]) -> None:
    """Raise DataError unless every part has the same classes, two or more."""
    classes = list(found["train"])
    if len(classes) < 2:
        raise DataError(
            f"{root} has one class folder, {classes[0]!r}, and a classifier needs 2 or more; add a class or, if that "
            "folder holds the class folders, pass it instead"
        )
    for part, groups in found.items():
        if list(groups) != classes:
            raise DataError(
                f"{part} and train in {root} have different class folders: missing in {part} "
                f"{sorted(set(classes) - set(groups))}, missing in train {sorted(set(groups) - set(classes))}; make "
                "them the same"
            )


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder below with the names in it, without hidden ones and entering no folder twice."""

    def fail(error: OSError) -> None:
        raise DataError(f"cannot list folder {error.filename}: {error.strerror}; check its permissions") from error

    # Links back to where we came from are loops, and would bring one class's images into another.
    above = folder.parent.resolve()
    seen = {*folder.resolve().parents, above, *above.parents}
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = Path(directory).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield Path(directory), folders, sorted(name for name in files if not name.startswith("."))


def _list_folder(folder: Path) -> tuple[list[str], list[str]]:
    return next(((folders, files) for _, folders, files in _walk(folder)), ([], []))


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and bool(_list_folder(folder)[0])


def _walk_images(folder: Path) -> Iterator[Path]:
    for directory, _, files in _walk(folder):
        yield from (directory / name for name in files if not name.lower().endswith(NON_IMAGE_SUFFIXES))


def _check_no_stray(folder: Path, files: Sequence[str]) -> None:
    stray = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    if stray:
        raise DataError(
            f"{len(stray)} images lie outside class folders and would not be used, e.g. {str(folder / stray[0])!r}; "
            "move them into the folder of their class or elsewhere"
        )
