"""The one way to stdout and stderr: safe on a terminal, the true text in a file or a pipe, never a traceback.

Imports `names`, click and the standard library.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any

import click

from edgecls.messages.names import safe

ENCODING_ERRORS = "edgecls"
_LINE_BREAKS = {ord("\n"): r"\n", ord("\r"): r"\r"}


def prepare_streams() -> None:
    """Replace closed standard streams, and let no character be one that stdout or stderr cannot encode."""
    # As GNU programs do: a closed descriptor would go to the next file that is opened, and messages into that file.
    # Opened the wrong way round, so that using a closed stdin or stdout is an error and not an empty result.
    for name, mode, flags in (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))
    codecs.register_error(ENCODING_ERRORS, _encode_anyway)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)


def _encode_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    # A byte of a file name that is not text goes out as it came in; what the encoding lacks becomes \xe4 or \u202e.
    encoded = bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else ascii(char)[1:-1].encode("ascii")
    return encoded, error.start + 1


def discard_unwritten() -> None:
    """Forget what stdout and stderr did not take: Python would try once more at its end, and show a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def one_line(text: str) -> str:
    """Return text that stays one line wherever it is written: its line breaks are escaped."""
    return text.translate(_LINE_BREAKS)


def for_stream(text: str, *, err: bool = False) -> str:
    """Return the text as stdout, or stderr, gets it: `safe` on a terminal, unchanged elsewhere."""
    return safe(text) if (sys.stderr if err else sys.stdout).isatty() else text


def echo(text: object, *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print text and a line break, unless `nl` is False, to stdout or stderr; on a terminal in Click's `style`.

    Raises:
        click.ClickException: stdout cannot be written. What stderr does not take is lost: no result depends on it.
        BrokenPipeError: whoever read stdout has gone.
    """
    stream = sys.stderr if err else sys.stdout
    line = for_stream(str(text), err=err)
    try:
        # With color=True Click leaves alone what looks like an escape sequence in a name.
        click.echo(click.style(line, **style) if style and stream.isatty() else line, nl=nl, err=err, color=True)
    except OSError as error:
        if not err and error.errno == errno.EPIPE:
            raise
        if not err:
            cause = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise click.ClickException(f"cannot write to stdout: {cause}") from error
