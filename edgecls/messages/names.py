"""Names of files and folders, escaped for display."""

from __future__ import annotations

import unicodedata


def safe(text: str) -> str:
    """Return text that is safe to show on a terminal, a page or a picture.

    Control characters other than line breaks, characters that change the direction of text, and bytes of a file name
    that are not text are escaped. Letters of all scripts stay.
    """
    return "".join(char if char == "\n" or _is_shown(char) else ascii(char)[1:-1] for char in text)


def _is_shown(char: str) -> bool:
    # "Zs" are spaces, such as the narrow one in the names of macOS' screenshots.
    return char.isprintable() or unicodedata.category(char) == "Zs"
