"""Which images go to which part, by (seed, class, path) alone, and which of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgecls.images.folders import Groups, to_nfc

if TYPE_CHECKING:
    from edgecls.images.dataset import Split


_Paths = tuple[tuple[str, ...], ...]


def split_groups(groups: Groups, fractions: Mapping[str, float], seed: int) -> dict[str, Groups]:
    """Return train and the parts in `fractions`, each with at least one image of each class."""
    parts: dict[str, Groups] = {part: {} for part in ("train", *fractions)}
    for name, paths in groups.items():
        order = sorted(paths, key=lambda path: (_split_key(seed, name, path), path))
        part_of = dict.fromkeys(paths, "train")
        for kept_back, (part, fraction) in zip(range(len(fractions), 0, -1), fractions.items(), strict=True):
            count = max(1, min(round(len(paths) * fraction), len(order) - kept_back))
            part_of.update(dict.fromkeys(order[:count], part))
            # From the other end next, so that one image more moves at most one over each border with train.
            order = order[count:][::-1]
        for part, chosen in parts.items():
            chosen[name] = [path for path in paths if part_of[path] == part]
    return parts


def _split_key(seed: int, name: str, path: str) -> bytes:
    # "surrogatepass" because names that are not UTF-8 are reported later, together with every other unreadable file.
    return hashlib.sha256(f"{seed}\0{name}\0{to_nfc(path)}".encode("utf-8", "surrogatepass")).digest()


def find_identical(splits: Mapping[str, Split]) -> tuple[_Paths, _Paths, _Paths]:
    """Return the paths of images with the same pixels: `duplicates`, `contradictions` and `repeats` of `Dataset`."""
    places: dict[bytes, list[tuple[str, int, str]]] = {}
    for part, split in splits.items():
        for path, label, digest in zip(split.paths, split.labels.tolist(), split.digests, strict=True):
            places.setdefault(digest, []).append((part, label, path))
    duplicates, contradictions, repeats = [], [], []
    for group in places.values():
        parts, labels, paths = (set(values) for values in zip(*group, strict=True))
        if len(labels) > 1:
            contradictions.append(_one_of_each(group, 1))
        if len(parts) > 1:
            duplicates.append(_one_of_each(group, 0))
        elif len(labels) == 1 < len(paths):
            repeats.append(_one_of_each(group, 0))
    return tuple(duplicates), tuple(contradictions), tuple(repeats)


def _one_of_each(group: Sequence[tuple[str, int, str]], position: int) -> tuple[str, ...]:
    """Return the paths, first one of each part (0) or label (1): messages show the beginning."""
    first = {place[position]: place for place in reversed(group)}
    return tuple(path for _, _, path in sorted(group, key=lambda place: first[place[position]] is not place))
