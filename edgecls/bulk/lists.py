"""Read lists of images, one path or URL in each line, in any common encoding."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path

from edgecls.bulk import storage
from edgecls.errors import DataError

# UTF-32 first: its byte order mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The encoding of Western Windows where it is not Unicode.
_WINDOWS = "cp1252"


def read_list(name: str) -> Iterator[str]:
    """Yield the lines of a list that are not empty, without quotes around them.

    UTF-16 and UTF-32 are recognized by their byte order mark, or by the zeros of UTF-16; other lists are UTF-8. A line
    that is not UTF-8 is the raw name of a file, if that exists, else it is cp1252.

    Raises:
        DataError: the list cannot be read, or a line of it.
    """
    try:
        with storage.open_stream(name) if storage.is_url(name) else Path(name).open("rb") as file:
            # Bytes that are not UTF-8 are kept, as in file names.
            lines = io.TextIOWrapper(file, _detect(file.peek(4)[:4]), errors="surrogateescape")
            for number, line in enumerate(lines, 1):
                # Joined lists leave byte order marks and end-of-file characters in the middle.
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
    # Equal if every byte is valid UTF-8.
    if raw.decode("utf-8", "replace") == text or os.path.lexists(text):
        return text
    try:
        return raw.decode(_WINDOWS)
    except UnicodeDecodeError as error:
        shown = raw.decode("utf-8", "backslashreplace")
        raise DataError(f"{where} is neither UTF-8 nor {_WINDOWS}: {shown}; save the list as UTF-8") from error
