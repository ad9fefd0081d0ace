"""Read lists of images, a path or URL a line, as people and their systems write them."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from edgecls.bulk import storage
from edgecls.errors import DataError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Windows writes in the West where it writes no Unicode.
_WINDOWS = "cp1252"


def read_list(name: str) -> Iterator[str]:
    """Yield the lines of a list that are not empty, without quotes around them.

    A list in UTF-16 or UTF-32 is known by its byte order mark, or by the zeros of UTF-16; any other is UTF-8. A line
    that is not UTF-8 is a name as the file system has it, if there is such a file, else it is in cp1252.

    Raises:
        DataError: the list cannot be read, or a line of it.
    """
    try:
        with storage.open_stream(name) if storage.is_url(name) else Path(name).open("rb") as file:
            # As file names come from the system: bytes that are no UTF-8 are kept.
            lines = io.TextIOWrapper(file, _detect(file.peek(4)[:4]), errors="surrogateescape")
            for number, line in enumerate(lines, 1):
                # A mark or an end of file amid the list is left of lists that were joined.
                if text := line.strip("\r\n\ufeff\x1a").rstrip("\0"):
                    if not text.isspace():
                        yield _decode(_unquote(text), f"line {number} of {name}")
    except (OSError, UnicodeError) as error:
        raise DataError(f"cannot read the list {name}: {error}; save it as UTF-8") from error


def _detect(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if head[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" else "utf-8"


def _unquote(text: str) -> str:
    """Return a name without the quotes that "Copy as path" and shells put around it."""
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" and not os.path.lexists(text):
        return text[1:-1]
    return text


def _decode(text: str, where: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    # Without a byte that is no UTF-8 it is the same text again.
    if raw.decode("utf-8", "replace") == text or os.path.lexists(text):
        return text
    try:
        return raw.decode(_WINDOWS)
    except UnicodeDecodeError as error:
        shown = raw.decode("utf-8", "backslashreplace")
        raise DataError(f"{where} is neither UTF-8 nor {_WINDOWS}: {shown}; save the list as UTF-8") from error
