"""Names of files and folders as people may be shown them. Imports the standard library only."""

from __future__ import annotations

import unicodedata


def safe(text: str) -> str:
    """Return text as a terminal, a page or a picture only shows it: what it would obey or cannot encode is escaped.

    Escaped are control characters other than line breaks, characters that turn the direction of text, and bytes of a
    file name that are no text. Letters of all scripts stay.
    """
    return "".join(char if char == "\n" or _is_shown(char) else ascii(char)[1:-1] for char in text)


def _is_shown(char: str) -> bool:
    # "Zs" are spaces, such as the narrow one in the names of macOS' screenshots.
    return char.isprintable() or unicodedata.category(char) == "Zs"
