"""Splits new images by when they were taken, because frames that follow each other look alike."""

from __future__ import annotations

import datetime
import re
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from edgecls.images import archive
from edgecls.images.folders import Groups

# As in 20261126T150613123-9f1c2a.jpg of a collection, IMG_20261126_150613.jpg and 2026-11-26 15.06.13.png.
_TIME = re.compile(
    r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)[T_ -]{0,3}(\d\d)[-:.]?(\d\d)[-:.]?(\d\d)(?:[.,]?(\d{3}|\d{6}))?(?!\d)"
)


def read_times(folder: Path, paths: Sequence[str]) -> tuple[dict[str, float], str]:
    """Return the time of each image in seconds, and where it comes from, in words for a sentence.

    It stands in the names of all of them; else it is that of the last change of each file. In an archive without times
    in names it is the place in the order of names.

    Args:
        folder: that the paths are relative to.
        paths: posix.
    """
    named = {path: time for path in paths if (time := _time_in(path)) is not None}
    if len(named) == len(paths):
        return named, "the time in their names"
    if archive.find_archive(folder):
        return {path: float(place) for place, path in enumerate(sorted(paths))}, "the order of their names"
    return {path: (folder / path).stat().st_mtime for path in paths}, "the time of the last change of each file"


def _time_in(path: str) -> float | None:
    for found in _TIME.finditer(path.rpartition("/")[2]):
        *numbers, fraction = found.groups()
        try:
            moment = datetime.datetime.strptime("".join(numbers), "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            continue
        return moment.timestamp() + float(f"0.{fraction or 0}")
    return None


def split_by_time(
    groups: Groups, fractions: dict[str, float], times: Mapping[str, float], known: Container[str]
) -> dict[str, Groups]:
    """Return train with the oldest images of each class, and the parts in `fractions`, the last with the newest.

    Two parts meet at the longest pause near the wanted number of images.

    Args:
        groups: the images of each class.
        fractions: of each part but train.
        times: of each image, in seconds.
        known: classes of which other images are in each part already; of any other class each part gets an image, if
            there are enough.
    """
    parts: dict[str, Groups] = {part: {} for part in ("train", *fractions)}
    for name, paths in groups.items():
        order = sorted(paths, key=lambda path: (times[path], path))
        least = int(name not in known and len(order) > len(fractions))
        for before, (part, fraction) in zip(range(len(fractions), 0, -1), reversed(fractions.items()), strict=True):
            count = max(least, min(round(len(paths) * fraction), len(order) - before))
            cut = len(order) - count
            if count:
                cut = _find_pause([times[path] for path in order], cut, count // 2, before)
            parts[part][name] = order[cut:]
            order = order[:cut]
        parts["train"][name] = order
    return parts


def _find_pause(times: Sequence[float], wanted: int, slack: int, least: int) -> int:
    """Return the index, within `slack` of the wanted one and at least `least`, before which the pause is longest."""
    pauses = [0.0, *(after - before for before, after in pairwise(times))]
    near = range(max(least, wanted - slack), min(len(times) - 1, wanted + slack) + 1)
    return max(near, key=lambda index: (pauses[index], -abs(index - wanted)))
