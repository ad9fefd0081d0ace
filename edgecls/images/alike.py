"""Names of classes that may be no classes of their own: "Cat" beside "cat ", "1" beside "01", "cat|dog" beside both."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from edgecls.messages.lists import some

# What file managers add to the name of a copy.
_COPY = re.compile(r"^copy of (?=.)|(?<=.) (copy|kopie|copie|copia)( \(?\d+\)?)?$|(?<=.) \(\d+\)$")


def list_alike(names: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each set of class names that may be one class."""
    keys = {name: _key(name) for name in names}
    known = set(keys.values())
    alike: dict[str, list[str]] = {}
    for name, key in keys.items():
        bare = _COPY.sub("", key)
        # "plate (1)" and "plate (2)" alone are two classes.
        alike.setdefault(bare if bare in known else key, []).append(name)
    return tuple(
        f"The classes {', '.join(map(repr, each))} are {len(each)} classes, though their names are nearly the same. "
        "If they are one class, give it one name"
        for each in alike.values()
        if len(each) > 1
    )


def list_combined(names: Collection[str]) -> tuple[str, ...]:
    """Return a sentence about classes that are called like several others together, as tables of many labels do."""
    found = [name for name in names if any(_is_combined(name, separator, names) for separator in "|;,+&/")]
    if not found:
        return ()
    return (
        f"Classes are called like several other classes together: {some(map(repr, found))}. If an image may have "
        "several labels, decide which one counts: here it has one class",
    )


def _is_combined(name: str, separator: str, names: Collection[str]) -> bool:
    parts = [part.strip() for part in name.split(separator)]
    return len(parts) > 1 and all(part in names for part in parts)


def _key(name: str) -> str:
    """Return a name without what is not seen: case, spaces, separators, invisible characters, zeros around a number."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", " ".join(text.split()))
    if re.fullmatch(r"\d+(\.0*)?", text):
        return text.partition(".")[0].lstrip("0") or "0"
    # Classes of letters may differ by their case alone.
    return text.casefold() if len(text) > 1 else text
