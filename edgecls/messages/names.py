"""Names of files and folders, escaped for display."""

from __future__ import annotations

import unicodedata

# A cell that begins so is a formula (OWASP, "CSV Injection"), in full-width letters too.
_BREAKS = frozenset("\t\r\n")
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


def safe(text: str) -> str:
    """Return text that is safe to show on a terminal, a page or a picture.

    Control characters other than line breaks, characters that change the direction of text, and bytes of a file name
    that are not text are escaped. Letters of all scripts stay.
    """
    return "".join(char if char == "\n" or _is_shown(char) else ascii(char)[1:-1] for char in text)


def as_cell(text: str) -> str:
    """Return text for a cell of a CSV file, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.lstrip()[:1] in _FORMULA or text[:1] in _BREAKS else text


def as_cell_path(path: str) -> str:
    """Return a relative path for a cell of a CSV file, as another spelling of it if it would be run as a formula."""
    return f"./{path}" if as_cell(path) != path else path


def _is_shown(char: str) -> bool:
    # "Zs" are spaces, such as the narrow one in the names of macOS' screenshots.
    return char.isprintable() or unicodedata.category(char) == "Zs"
