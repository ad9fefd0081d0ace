"""What all commands share: printing, warnings, JSON, common options, and the import of TensorFlow without its output.

Nothing else writes to stdout and stderr: escaped on a terminal, unchanged in a file or a pipe, never a traceback.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.errors import MissingDependency
from edgecls.messages.names import safe

if TYPE_CHECKING:
    from edgecls.images.leftovers import LeftOut
    from edgecls.remote.host import Host
    from edgecls.training.diagnosis.finding import Finding

PATH = click.Path(path_type=Path)
"""The type of every path on the command line; the code that opens it checks that it exists."""

STDOUT = Path("-")
"""What `--json` takes for stdout."""
ENCODING_ERRORS = "edgecls"
# Of --collect-limit.
COLLECT_BYTES = 500_000_000
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


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--device`."""
    # Imported late: most commands have no such option.
    from edgecls.runtime.engines import DEVICES, SIMULATORS

    choice = click.Choice([*DEVICES, *SIMULATORS])
    return click.option(
        "--device", type=choice, default="cpu", show_default=True, help="What the model runs on; a simulator is slow."
    )(command)


def untrusted_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--untrusted`."""
    return click.option(
        "--untrusted", is_flag=True, help="Treat FILE as malicious: load it in a separate process first."
    )(command)


def _to_bytes(ctx: click.Context, param: click.Parameter, text: str | None) -> int:
    if text is None:
        return COLLECT_BYTES
    # Whoever sets no limit does not wait for this import.
    from edgecls.cli.option_types import Size

    return Size().convert(text, param, ctx)


def collect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--collect`; it gets the folder and its size limit in bytes as `collect`, or None."""

    @click.option("--collect", type=PATH, metavar="DIR", help="Keep uncertain images in DIR, to label them later.")
    @click.option("--collect-limit", metavar="SIZE", callback=_to_bytes, help="Size of DIR at most.  [default: 500MB]")
    @functools.wraps(command)
    def with_collection(*args: Any, collect: Path | None, collect_limit: int, **options: Any) -> Any:
        return command(*args, collect=None if collect is None else (collect, collect_limit), **options)

    return with_collection


def host_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--host` and `--python`; it gets them as `host`, None without `--host`."""

    @click.option("--host", metavar="USER@BOARD", help="Run the command on this board over ssh.")
    @click.option("--python", metavar="PATH", help="Path to Python on the board.  [default: python3]")
    @functools.wraps(command)
    def with_host(*args: Any, host: str | None, python: str | None, **options: Any) -> Any:
        if python is not None and host is None:
            raise click.UsageError("--python names the Python on a board; it needs --host")
        if host is not None and not host.strip():
            raise click.UsageError("--host needs a name such as pi@raspberrypi.local")
        return command(*args, host=_host(host, python) if host else None, **options)

    return with_host


def _host(name: str, python: str | None) -> Host:
    # A local command does not wait for these imports.
    from edgecls.remote.host import Host

    # Without a terminal nobody could answer what ssh asks.
    return Host(name, python or Host.python, asks=sys.stdin.isatty())


def warn(text: str) -> None:
    """Print a warning to stderr, in yellow on a terminal."""
    echo(f"Warning: {text}", fg="yellow", err=True)


@contextlib.contextmanager
def counting_left_out(*, at_once: bool = False) -> Iterator[LeftOut]:
    """Yield a counter of the files that a command leaves out, and print it to stderr at the end.

    With `at_once` the first file of each kind is also printed when it is left out.
    """
    from edgecls.images.leftovers import LeftOut

    def report(text: str) -> None:
        if text:
            echo(text, err=True)

    left_out = LeftOut(report) if at_once else LeftOut()
    try:
        yield left_out
    finally:
        report(str(left_out))


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a diagnosis, the worst finding first, colored by severity on a terminal."""
    colors = {"error": "red", "warning": "yellow", "note": None}
    for finding in findings:
        if not finding.remedy:
            echo(f"\n{finding.text}")
            continue
        echo(f"\n{finding.severity}: {finding.name}", fg=colors[finding.severity], bold=True)
        echo(f"  {finding.text}\n  {finding.remedy}" + (f"\n  {finding.effect}" if finding.effect else ""))


def print_json(value: object) -> None:
    """Print one JSON document to stdout."""
    # ASCII, because a file name may hold bytes that no encoding of stdout accepts.
    echo(json.dumps(value, indent=1))


def write_document(document: object, json_path: Path | None) -> bool:
    """Return True if a document went to stdout, and write it to another path on request, whose folder is created."""
    from edgecls.files import write_json

    if json_path == STDOUT:
        print_json(document)
        return True
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_path, document)
    return False


def load_tensorflow(*, begin: bool = True) -> None:
    """Import TensorFlow without its log, or raise an error that names the extra; `begin` also starts its runtime."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise MissingDependency("this command needs TensorFlow: pip install 'edgecls[train]'")
    from edgecls.images.memmap import cache_folder
    from edgecls.output_capture import quietly

    # Without a writable home folder Keras writes into /tmp/.keras or ./~, and Matplotlib warns.
    if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111
        for variable, name in (("KERAS_HOME", "keras"), ("MPLCONFIGDIR", "matplotlib")):
            os.environ.setdefault(variable, str(cache_folder() / name))
    with quietly("import of TensorFlow"):
        import tensorflow as tf

        if begin:
            # The first operation starts the rest of TensorFlow, which also logs.
            tf.zeros(1)
        tf.get_logger().setLevel("ERROR")


def read_stdin() -> bytes:
    """Return the bytes of an image; raise DataError if there are too many."""
    from edgecls.errors import DataError
    from edgecls.limits import MAX_FILE_BYTES

    try:
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read an image from stdin: {error.strerror}; pipe one into it") from error
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"stdin has more than {MAX_FILE_BYTES} bytes, the largest size of an image; make it smaller")
    return data


def utc_now() -> str:
    """Return the time in UTC as ISO 8601 writes it."""
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def echo_csv(*values: object) -> None:
    """Print one record of CSV, quoted as in RFC 4180, line breaks in names too."""
    import csv
    import io

    line = io.StringIO()
    # Records end as all lines on stdout do.
    csv.writer(line, lineterminator="\r\n").writerow(values)
    record = line.getvalue().removesuffix("\r\n")
    echo(one_line(record) if sys.stdout.isatty() else record)
