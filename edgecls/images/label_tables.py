"""The class, part and group of images as a table says them: which columns say it, and which images its rows mean."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecls.errors import ConfigError, DataError
from edgecls.images.image_names import Files, folder_part
from edgecls.images.leftovers import LeftOut
from edgecls.images.split_names import read_role
from edgecls.images.tables import NOTHING, Table, is_nothing, read_table
from edgecls.images.walk import walk_images
from edgecls.messages.lists import some

KINDS = ("image", "label", "split", "group")
# What tables call their columns, in small letters without separators.
_NAMES = {
    "image": (
        *("path", "image", "imagepath", "file", "filename", "filepath", "imagename", "imageid", "img", "id", "name"),
    ),
    "label": (
        *("label", "labels", "class", "classname", "classid", "category", "target", "y", "diagnosis", "dx", "species"),
        *("breed", "labelname", "categoryname", "finding", "defect", "type"),
    ),
    "split": ("split", "set", "subset", "partition", "usage", "phase", "splits"),
    "group": (
        *("group", "groupid", "patient", "patientid", "subject", "subjectid", "person", "personid", "lesionid"),
        *("video", "videoid", "sequence", "sequenceid", "part", "partid", "serial", "session", "sessionid"),
    ),
}
_LOOKED_AT = 200  # rows


@dataclass(frozen=True)
class Labeled:
    """One image of a table."""

    path: str  # posix, relative to the dataset's root
    label: str  # its class
    part: str  # "train", "val" or "test"; "" if the table does not say it
    group: str  # what it belongs to; "" if the table does not say it


def read_labels(
    root: Path, tables: Sequence[str], columns: str = "", left_out: LeftOut | None = None
) -> tuple[list[Labeled], list[str]]:
    """Return every labeled image of some tables, and sentences that say how they were read.

    Args:
        root: the dataset's folder.
        tables: paths of files; one that is called train.csv says that its images are training images.
        columns: the user's own words: "image=COLUMN,label=COLUMN,split=COLUMN,group=COLUMN", any of them; an empty
            COLUMN is none.
        left_out: counts the images that no row names, and rows without a label.

    Raises:
        DataError: a table cannot be read, is ambiguous, or names images that are not there or have two labels.
        ConfigError: `columns` is not understood.
    """
    left_out = left_out or LeftOut()
    files = Files(walk_images(root, left_out), root)
    chosen, notes = _parse(columns), []
    found: dict[str, Labeled] = {}
    unlabeled: set[str] = set()
    for name in tables:
        table = read_table(Path(name), functools.partial(_names_image, files))
        part = read_role(Path(name).stem)
        used = _find_columns(table, files, chosen, part)
        notes.append(_describe(table, used, part))
        for image in _read_rows(table, files, used, part, unlabeled):
            _check_same(found.setdefault(image.path, image), image, table.name)
    left_out.add("without a label in the table", len(unlabeled - set(found)))
    left_out.add("not named by the table", len(files.paths - unlabeled - set(found)))
    return list(found.values()), notes


def _check_same(one: Labeled, other: Labeled, table: str) -> None:
    """Raise DataError if two rows say different things of one image."""
    for what, this, that, remedy in (
        ("labels", one.label, other.label, ""),
        ("splits", one.part, other.part, ", or split again with --columns split="),
        ("groups", one.group, other.group, ", or leave groups out with --columns group="),
    ):
        if this != that:
            raise DataError(f"{table} gives {one.path} two {what}, {this!r} and {that!r}; keep one{remedy}")


def read_column(root: Path, name: str, kind: str) -> dict[str, str]:
    """Return path -> the cell in the column of `kind` ("group"), or in the last one, of each image of a table.

    Raises:
        DataError: as `read_labels` raises it.
    """
    files = Files(walk_images(root, LeftOut()), root)
    table = read_table(Path(name), functools.partial(_names_image, files))
    image = _find_image(table, files, {}, "")
    others = [each for each in table.columns if each != image]
    column = _named(others, kind) or (others[0] if len(others) == 1 else "")
    if not column:
        raise DataError(f"{table.name} has the columns {some(table.columns)}; call the one that says it {kind!r}")
    found: dict[str, str] = {}
    for name, cell in zip(table.column(image), table.column(column), strict=True):
        for path in files.find(name):
            if (known := found.setdefault(path, cell)) != cell:
                raise DataError(f"{table.name} gives {path} two {kind}s, {known!r} and {cell!r}; keep one")
    return found


def read_excluded(root: Path, name: str, left_out: LeftOut, folders: Sequence[Path] = ()) -> set[str]:
    """Return the paths of the images that a table says to leave out.

    These are all that it names, or, if it has a column "action", those with "exclude" there; "keep" keeps one.

    Args:
        root: that the paths are relative to.
        name: of the table.
        left_out: counts them.
        folders: that hold the images, if not all in `root` are meant.

    Raises:
        DataError: it cannot be read, or names images that are not there, or another action, or two for an image.
    """
    images = (path for folder in folders or [root] for path in walk_images(folder, LeftOut()))
    files = Files(images, root)
    table = read_table(Path(name), functools.partial(_names_image, files))
    names = table.column(_find_image(table, files, {}, ""))
    actions = table.column("action") if "action" in table.columns else ["exclude"] * len(names)
    if wrong := [action for action in actions if action not in ("exclude", "keep")]:
        raise DataError(f"{table.name} has the action {wrong[0]!r}; an action is exclude or keep")
    found = {cell: files.find(cell) for cell in names}
    if unclear := [cell for cell, paths in found.items() if len(paths) != 1]:
        raise DataError(
            f"{len(unclear)} of {len(found)} images of {table.name} are not in the folder, or may be several there: "
            f"{some(unclear)}; remove these rows, or give the paths relative to DATA"
        )
    said: dict[str, str] = {}
    for cell, action in zip(names, actions, strict=True):
        if said.setdefault(found[cell][0], action) != action:
            raise DataError(f"{table.name} has both actions, exclude and keep, for {found[cell][0]}; keep one row")
    excluded = {path for path, action in said.items() if action == "exclude"}
    left_out.add(f"named by {table.name}", len(excluded))
    return excluded


def _names_image(files: Files, name: str) -> bool:
    return bool(name) and bool(files.find(name))


def _parse(columns: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in columns.split(",")] if columns else []
    if any(kind not in KINDS or not mark for kind, mark, _ in pairs):
        raise ConfigError(f"--columns must be like image=COLUMN,label=COLUMN; received {columns!r}")
    return {kind: name for kind, _, name in pairs}


def _find_columns(table: Table, files: Files, chosen: Mapping[str, str], part: str) -> dict[str, str]:
    """Return the column of each kind; "" for none. The label is " one column each" if each class has a column."""
    if missing := [name for name in chosen.values() if name and name not in table.columns]:
        raise DataError(f"--columns: {table.name} has no column {some(missing)}; it has {some(table.columns, 20)}")
    used = {"image": _find_image(table, files, chosen, part)}
    left = [name for name in table.columns if name != used["image"] and name not in chosen.values()]
    for kind in ("split", "group"):
        used[kind] = chosen[kind] if kind in chosen else _named(left, kind)
        left = [name for name in left if name != used[kind]]
    used["label"] = chosen["label"] if chosen.get("label") else _find_label(table, left)
    if nested := [name for name in used.values() if name in table.nested]:
        cell = next(cell for cell in table.column(nested[0]) if cell)
        raise DataError(
            f"column {nested[0]!r} of {table.name} holds lists or objects, such as {cell[:80]}; write one text or "
            "number in each row: an image has one class"
        )
    return used


def _find_image(table: Table, files: Files, chosen: Mapping[str, str], part: str) -> str:
    if chosen.get("image"):
        return chosen["image"]
    counts = {
        name: sum(bool(cell) and bool(files.find(cell, part)) for cell in set(table.column(name)[:_LOOKED_AT]))
        for name in table.columns
    }
    best = [name for name in table.columns if counts[name] == max(counts.values()) > 0]
    if not best:
        raise DataError(
            f"no column of {table.name} names images in the folder; its columns are {some(table.columns)}, its first "
            f"row {some(table.rows[0])}. Pass the folder that the names begin from as DATA, or write them relative to "
            "DATA"
        )
    if len(best) > 1 and not (named := _named(best, "image")):
        raise DataError(f"the columns {some(best)} of {table.name} name images: choose with --columns image={best[0]}")
    return best[0] if len(best) == 1 else named


def _named(columns: Sequence[str], kind: str) -> str:
    plain = {re.sub(r"[\W_]+", "", name.lower()): name for name in columns}
    return next((plain[name] for name in _NAMES[kind] if name in plain), "")


def _find_label(table: Table, columns: Sequence[str]) -> str:
    # Programs write the row's number without a name.
    columns = [name for name in columns if name and not name.startswith("Unnamed")]
    named = [name for name in columns if _named([name], "label")]
    if len(named) > 1:
        # The number of a class and its name.
        first = table.column(named[0])
        if all(len(set(first)) == len(set(zip(first, table.column(n), strict=True))) for n in named):
            return max(named, key=lambda name: not all(cell.isdigit() for cell in table.column(name)))
    candidates = named or columns
    if len(candidates) == 1 or not candidates:
        return candidates[0] if candidates else ""
    if not named and _is_one_hot(table, columns):
        return " "
    raise DataError(
        f"the columns {some(candidates)} of {table.name} may hold the label: pass --columns label={candidates[0]}"
    )


def _is_one_hot(table: Table, columns: Sequence[str]) -> bool:
    cells = [[row[table.columns.index(name)] for name in columns] for row in table.rows]
    if not all(cell in ("0", "1", "0.0", "1.0") for row in cells for cell in row):
        return False
    if several := [number for number, row in enumerate(cells) if sum(map(float, row)) != 1]:
        raise DataError(
            f"row {several[0] + table.first_line} of {table.name} has 1 in {sum(map(float, cells[several[0]])):.0f} of "
            f"the columns {some(columns)}; an image must have one class: correct {len(several)} rows"
        )
    return True


def _describe(table: Table, used: Mapping[str, str], part: str) -> str:
    label = used["label"]
    source = f"the class from column {label!r}"
    if label == " ":
        source = "the class from the column that holds 1"
    elif not label:
        source = "the class from the folder of each image"
    more = "".join(f", the {kind} from column {used[kind]!r}" for kind in ("split", "group") if used[kind])
    whole = f"; all its images are for {part}" if part and not used["split"] else ""
    guess = "" if table.is_unicode else " It is not UTF-8 and was read as Windows-1252: check the names of the classes."
    rows = f"{len(table.rows):,} rows, images from column {used['image']!r}"
    return f"Read {table.name}: {rows}, {source}{more}{whole}.{guess}"


def _read_rows(table: Table, files: Files, used: Mapping[str, str], part: str, unlabeled: set[str]) -> list[Labeled]:
    """Return what the rows say; images whose row has no label are added to `unlabeled`."""
    place = {kind: table.columns.index(name) for kind, name in used.items() if name.strip()}
    classes = [name for name in table.columns if name and name not in used.values()] if used["label"] == " " else []
    images, missing = [], []
    for number, row in enumerate(table.rows, table.first_line):
        cells = {kind: row[index] for kind, index in place.items()}
        where = f"row {number} of {table.name}"
        own = _read_part(cells["split"], where) if "split" in cells else part
        found = files.find(cells["image"], own)
        if len(found) > 1:
            raise DataError(f"{where} may mean {some(found)}: {cells['image']!r}; give the path relative to DATA")
        if not found:
            missing.append(cells["image"])
            continue
        label = cells.get("label", posixpath.basename(posixpath.dirname(found[0])))
        if classes:
            label = next(name for name in classes if row[table.columns.index(name)].startswith("1"))
        if is_nothing([label]):
            unlabeled.add(found[0])
            continue
        group = cells.get("group", "")
        images.append(Labeled(found[0], label, own or folder_part(found[0]), "" if group in NOTHING else group))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(table.rows)} rows of {table.name} name no image in the folder: {some(missing)}; "
            "remove these rows, pass the folder that the names begin from as DATA, or write them relative to DATA"
        )
    return images


def _read_part(cell: str, where: str) -> str:
    if part := read_role(cell):
        return part
    raise DataError(
        f"{where} has the split {cell!r}, which is not train, val or test; correct it, or split again with "
        "--columns split="
    )
