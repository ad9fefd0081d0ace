"""Where the images of a dataset lie: its parts, class folders and files.

A folder of class folders is "flat"; one with a `train` folder that holds folders is "pre-split" (`parts`). Nothing that
looks like data is left out without a word: what would not be used is an error, or counted in a `LeftOut`.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecls.errors import DataError
from edgecls.images import archive
from edgecls.images.leftovers import LeftOut
from edgecls.images.parts import PARTS, check_no_splits, check_no_stray, find_parts
from edgecls.images.split_names import are_portions, find_splits
from edgecls.images.walk import is_image_in, keep_files, list_folder, walk, walk_images
from edgecls.messages.lists import counted, some
from edgecls.messages.path_kinds import describe

# The folders of a collection (`edgecls.serve.collect`): without labels, with them, of no class, and of records.
COLLECTED, LABELED, NO_CLASS, RECORDS = "collected", "labeled", "no-class", "records"
# What data sets for segmentation call the mask of an image.
_MASK = re.compile(r"(?i)[ _-](masks?|seg|segmentation|gt|groundtruth|annotation|labels?)([ _-]?\d+)?$")
# The images that are scored, where nothing is split.
ALL = "all"
Groups = dict[str, list[str]]  # class -> posix paths relative to the dataset's root
Sample = tuple[str, int]  # posix path relative to the root, index of the class


def to_nfc(name: str) -> str:
    """Return the name in the one spelling of its characters that is compared and sorted: Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def check_class(name: str, what: str) -> None:
    """Raise DataError, which begins with `what`, if no list of labels can hold the name of a class."""
    # Cc, Zl, Zp: every line break (exported files list one label a line). Cs: bytes that are not UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise DataError(f"{what} has control or non-UTF-8 characters; rename it")


def check_root(root: Path) -> Path:
    """Return the absolute path of a dataset's folder, which may be a ZIP or tar file or a folder in one.

    Of a folder that `--collect` made, that is the one of images with a label.

    Raises:
        DataError: there is no such folder.
    """
    if not archive.is_folder(root):
        cause = f"it is {describe(root) or 'a file'}" if root.exists() else "there is no such folder"
        raise DataError(f"cannot read images from {root}: {cause}; pass a folder of class folders")
    root = root.resolve()
    # Archives often hold one folder that holds everything.
    while archive.find_archive(root):
        folders, files = list_folder(root)
        if len(folders) != 1 or find_splits(folders, {folders[0]: {"any"}}) or not list_folder(root / folders[0])[0]:
            break
        if any(is_image_in(root, name) for name in files):
            break
        root /= folders[0]
    return root / LABELED if _is_collection(root) else root


def _is_collection(root: Path) -> bool:
    return all(archive.is_folder(root / name) for name in (COLLECTED, LABELED, RECORDS))


def _list_class_folders(folder: Path, left_out: LeftOut) -> list[str]:
    """Return the names of the folders in a folder, and count what lies beside them."""
    names, files = list_folder(folder, left_out)
    check_no_stray(folder, files)
    for name in files:
        left_out.add_unknown(name)
    if folder.name == LABELED and _is_collection(folder.parent):
        for name, why in ((COLLECTED, "without a label yet"), (NO_CLASS, "of no class")):
            left_out.add(f"in {folder.parent.name}/{name} ({why})", len(list_folder(folder.parent / name)[1]))
    return names


def list_images(root: Path, folder: Path, left_out: LeftOut | None = None, *, check: bool = True) -> Groups:
    """Return the images of each class folder in `folder`, classes and paths in NFC code-point order.

    Folders inside a class folder belong to that class. Links are followed. Whether a file is an image is not looked at,
    so that a .gif or .heic is reported and not passed over.

    Args:
        root: that the paths are relative to.
        folder: in or below it.
        left_out: counts the other files.
        check: False to take every folder for a class, whatever it is called.

    Raises:
        DataError: `folder` has no class folders, or such as are splits, two of one name or one of an unusable name, or
        images beside them.
    """
    left_out = left_out or LeftOut()
    names = _list_class_folders(folder, left_out)
    classes: dict[str, str] = {}
    for name in names:
        check_class(name, f"class folder {name!r} in {folder}")
        if to_nfc(name) in classes:
            raise DataError(f"two class folders in {folder} are named {to_nfc(name)!r} in Unicode's NFC; rename one")
        classes[to_nfc(name)] = name
    if not classes:
        raise DataError(f"{folder} has no class folders; make one folder of images for each class")
    if check:
        check_no_splits(folder, names)
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
        inner = [f"{only / name}" for name in list_folder(only)[0]] if archive.is_folder(only) else []
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


def find_good_class(name: str, classes: Sequence[str]) -> int:
    """Return the index of the class `name`; raise DataError, with the closest name, if there is no such class."""
    name = to_nfc(name)
    if name in classes:
        return list(classes).index(name)
    folded = {each.casefold(): each for each in classes}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    hint = f"did you mean {folded[near[0]]!r}?" if near else f"the classes are {some(classes, 20)}"
    raise DataError(f"--good-class {name!r} is none of the classes; {hint}")


def list_labeled(root: Path, classes: Sequence[str], left_out: LeftOut | None = None) -> tuple[list[Sample], str]:
    """Return the images of root/test if it is there, else of root/val, else of root, labeled by position in `classes`.

    The second value says which they are: "test", "val" or "all".

    Folders are matched to `classes` by name, so the order of either does not matter. Classes may have no image there.

    Raises:
        DataError: a folder of images is no class, there is no image, or folders of classes lie beside the one chosen.
    """
    root = check_root(root)
    names = [to_nfc(name) for name in classes]
    # A class may really be called test.
    parts = {part: root / part for part in PARTS if part not in names and archive.is_folder(root / part)}
    if not parts and len(named := find_parts(root)) > 1:
        parts = named
    if list(parts) == ["train"]:
        raise DataError(f"{root} has no test and no val folder to score on; add one, or pass {parts['train']}")
    part, folder = list(parts.items())[-1] if parts else (ALL, root)
    known = [name for name in list_folder(root)[0] if to_nfc(name) in names and name not in PARTS] if parts else []
    if beside := [name for name in known if any(walk_images(root / name, LeftOut()))]:
        raise DataError(
            f"{root} holds images of {some(beside)} beside {folder.relative_to(root)}, and they would not be scored. "
            f"To score only the latter, pass {folder}; else move them into one folder"
        )
    groups = list_images(root, folder, left_out)
    check_known(groups, names, f"the class folders of {folder}", "rename, add or remove folders")
    return to_samples(groups, names), part


def check_known(groups: Groups, names: Sequence[str], what: str, remedy: str) -> None:
    """Raise DataError that begins with `what` if classes are unknown to a model, or there is no image."""
    unknown = [name for name in groups if name not in names and groups[name]]
    if unknown or not any(groups.values()):
        missing = [name for name in names if not groups.get(name)]
        kinds = {"without images": missing, "unknown to the model": unknown}
        found = ", ".join(f"{kind} {some(each)}" for kind, each in kinds.items() if each)
        raise DataError(
            f"{what} are not the classes of the model: {found}; the data have {some(groups)}, the model's classes "
            f"{some(names)}: {remedy} until the names are the same"
        )


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
    for name, inner in zip(names, below, strict=True):
        if others := sorted((inner & set(names)) - {name}):
            found.append(
                f"The class folder {folder / name} holds folders that are called like other classes: {some(others)}. "
                f"Their images were taken for {name}; if they are of those classes, move them there or elsewhere"
            )
    if masks := _find_masks(groups):
        found.append(
            f"{counted(len(masks), 'image is', 'images are')} called like masks or copies of others, such as "
            f"{masks[0]}, and were read as images of their class. If they are, move them out of the class folders"
        )
    if are_portions(names):
        found.append(
            f"The classes {some(names)} are called like portions of a data set; make sure that they are classes"
        )
    return tuple(found)


def _find_masks(groups: Groups) -> list[str]:
    """Return the images beside another one of the same name but for "_mask" and the like, or .png in place of .jpg."""
    stems = {path: posixpath.splitext(path)[0] for paths in groups.values() for path in paths}
    counts = Counter(stems.values())
    bare = {path: _MASK.sub("", stem) for path, stem in stems.items()}
    return [
        path
        for path, stem in stems.items()
        if (bare[path] != stem and bare[path] in counts) or (counts[stem] > 1 and path.lower().endswith(".png"))
    ]
