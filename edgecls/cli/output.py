"""The only writer of stdout and stderr: escaped on a terminal, unchanged in a file or a pipe, never a traceback."""

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
    """Replace closed standard streams, and escape characters that stdout or stderr cannot encode."""
    # As GNU programs do: the next opened file would get the closed descriptor, and messages would go into that file.
    # Each is opened in the opposite mode, so that using a closed stdin or stdout is an error and not an empty result.
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
    # A byte of a file name that is not text is written unchanged; other characters become \xe4 or \u202e.
    encoded = bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else ascii(char)[1:-1].encode("ascii")
    return encoded, error.start + 1


def discard_unwritten() -> None:
    """Discard output that could not be written: Python would try again at exit and print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def one_line(text: str) -> str:
    """Return the text with its line breaks escaped."""
    return text.translate(_LINE_BREAKS)


def for_stream(text: str, *, err: bool = False) -> str:
    """Return the text as stdout, or stderr, gets it: `safe` on a terminal, unchanged elsewhere."""
    return safe(text) if (sys.stderr if err else sys.stdout).isatty() else text


def echo(text: object, *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print text and a line break, unless `nl` is False, to stdout or stderr; on a terminal in Click's `style`.

    Raises:
        click.ClickException: stdout cannot be written. Text that stderr does not accept is lost.
        BrokenPipeError: the reader of stdout has ended.
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
