"""Lists in messages, shortened for the reader."""

from __future__ import annotations

from collections.abc import Iterable

MOST_NAMES, MOST_LINES = 5, 20


def some(names: Iterable[object], most: int = MOST_NAMES, separator: str = ", ") -> str:
    """Return the first names, and how many more there are: "a, b, c and 797 more"."""
    listed = [str(name) for name in names]
    # "and 1 more" would be as long as the last name.
    if len(listed) <= most + 1:
        return separator.join(listed)
    return f"{separator.join(listed[:most])} and {len(listed) - most} more"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number and what is counted: "1 image", "1,200 images"; `many` is the plural if "s" does not make it."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def short(value: object, most: int = 200) -> str:
    """Return a value's text, cut to `most` characters and "..."."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def some_lines(lines: Iterable[object], most: int = MOST_LINES) -> str:
    """Return the first lines, indented, and how many more there are."""
    listed = [f"\n  {line}" for line in lines]
    more = len(listed) - most
    return "".join(listed[:most]) + (f"\n  and {more} more" if more > 0 else "")
