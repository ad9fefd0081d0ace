"""Folders that are splits or portions of a data set and no classes, told by their names. Imports nothing of edgecls.

A name is cut into words at separators, at digits and where a capital follows a small letter; words like "set", "data"
and "images" (`_COLLECTIONS`) say nothing. Of the others, the first or the last gives the role if it is train, val or
test or what people call them (`_ROLES`); the remaining ones are the rest. "training_set" is train without a rest,
"seg_train_2" is train with the rest "seg", and so is a "toy train" with the rest "toy". Folders side by side are no
classes if

1. two of them have the same rest and different roles: train and Test1, seg_train and seg_test, trainA and testA; or
2. all of them have roles or say nothing: train1 and train2, fold1 to fold5, images and masks (not label1, label2); or
3. all of them are numbered portions (`_PORTIONS`) that hold the same two or more folders: batch_1/cat, batch_2/cat; or
4. one of them has a role without a rest and holds folders: test/cat beside cat and dog.

So the vehicle "train" may stand beside "car" and "plane", and the parts "part1" and "part2" of a machine are classes as
long as they hold images alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

_ROLES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval", "learn", "learning"),
    "val": ("val", "valid", "validate", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout", "heldout", "unseen"),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}
_SPLITS = ("fold", "folds", "split", "splits", "subset", "subsets")
_COLLECTIONS = (
    *("set", "sets", "data", "dataset", "datasets", "folder", "folders", "dir", "file", "files", "raw", "all"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "sample", "samples"),
    *("mask", "masks", "label", "labels", "annotation", "annotations", *_SPLITS),
)
_PORTIONS = ("part", "parts", "batch", "chunk", "shard", "block", "archive", "session", "portion", *_COLLECTIONS)
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+")
_GLUED = re.compile(f"({'|'.join(_COLLECTIONS)})?({'|'.join(sorted(_ROLE_OF, key=len, reverse=True))})"
                    f"({'|'.join(_COLLECTIONS)})?")  # fmt: skip
# What cameras and programs call every picture.
_CAMERAS = ("img", "image", "dsc", "dscn", "dscf", "pxl", "mvimg", "dji", "gopr", "frame", "photo", "pict", "p", "wp")


class _Name(NamedTuple):
    role: str
    rest: tuple[str, ...]
    words: tuple[str, ...]


def read_role(name: str) -> str:
    """Return "train", "val" or "test" if a folder's name says so, else ""."""
    return _read(name).role


def find_splits(names: Sequence[str], inside: Mapping[str, AbstractSet[str]]) -> list[str]:
    """Return those folders side by side that are no classes, by the rules above; none if all may be classes.

    Args:
        names: of all the folders.
        inside: the names of the folders that each of them holds.
    """
    known = {name: _read(name) for name in names}
    several = len(names) > 1

    def has_other_role(one: _Name) -> bool:
        return any(each.rest == one.rest and each.role not in ("", one.role) for each in known.values())

    if pairs := [name for name, each in known.items() if each.role and has_other_role(each)]:
        return pairs
    if several and all(each.words and not each.rest for each in known.values()):
        if not are_portions(names) or any(each.role or set(each.words) & set(_SPLITS) for each in known.values()):
            return list(names)
    same = {frozenset(inside.get(name, ())) for name in names}
    if several and are_portions(names) and len(same) == 1 and len(min(same)) > 1:
        return list(names)
    return [name for name, each in known.items() if each.role and not each.rest and inside.get(name)]


def match_roles(names: Sequence[str], inside: Mapping[str, AbstractSet[str]]) -> dict[str, str]:
    """Return the folder of each role, "train", "val" and "test", if the folders side by side are clearly these.

    They are if one of them at most has each role, one is train, and the rests of their names are the same.
    """
    splits = find_splits(names, inside)
    known = [_read(name) for name in splits]
    roles = [each.role for each in known]
    clear = len(set(roles)) == len(roles) and "train" in roles and "" not in roles
    if not clear or len({each.rest for each in known}) > 1:
        return {}
    return {role: name for role in _ROLES for name, found in zip(splits, roles, strict=True) if found == role}


def is_collection(name: str) -> bool:
    """Return whether a name says nothing but that it holds data: "images", "data_set"."""
    return bool(words := _read(name).words) and set(words) <= set(_COLLECTIONS)


def are_portions(names: Sequence[str]) -> bool:
    """Return whether all are numbered and called like portions of a data set: part1, part2."""
    return all(
        re.search(r"\d", name) and set(_read(name).words) <= set(_PORTIONS) and _read(name).words for name in names
    )


def _read(name: str) -> _Name:
    words = [word.lower() for word in _WORD.findall(re.sub(r"(?i)(hold|held)[-_ ]out", r"\1out", name))]
    roles = {word: _ROLE_OF[glued[2]] for word in words if (glued := _GLUED.fullmatch(word))}
    telling = [word for word in words if word not in _COLLECTIONS]
    role = next((roles[word] for word in (telling[-1:] + telling[:1]) if word in roles), "")
    return _Name(role, tuple(word for word in telling if word not in roles), tuple(words))


def class_pattern(classes: Sequence[str], files: Sequence[str]) -> str:
    """Return the regular expression that finds the classes of `class_in_names` in the paths of those files."""
    first = all(name.startswith(tuple(classes)) for name in files)
    return r"([^/\d]*[^/\d._\s(-])[\s._(-]*\d[^/]*$" if first else r"\d+[\s._-]+([^/\d.]+)\.[^/]*$"


def class_in_names(files: Sequence[str]) -> list[str]:
    """Return the classes that file names seem to hold beside a number: cat.0.png, dog_17.png, 3-cow.png; else none."""
    counts: dict[str, int] = {}
    for name in files:
        match = re.match(r"([^\W\d_][^\d.]*?)[\s._-]*\(?\d|\d+[\s._-]+([^\W\d_][^\d.]*?)\.", name)
        found = (match[1] or match[2]) if match else ""
        if not found or found.lower() in _CAMERAS:
            return []
        counts[found] = counts.get(found, 0) + 1
    # With fewer than two files each they are names of their own.
    return sorted(counts) if 2 <= len(counts) <= len(files) // 2 else []
