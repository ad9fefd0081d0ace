"""What all commands share: progress, warnings, JSON, paths, and the import of TensorFlow without its output."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.output import echo
from edgecls.errors import MissingDependency
from edgecls.messages.names import safe

if TYPE_CHECKING:
    from edgecls.images.leftovers import LeftOut
    from edgecls.training.diagnosis.finding import Finding


class ProgressBars:
    """Shows a bar for each stage on stderr; if that is no terminal, a line for each stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._done = 0
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done; a new stage gets a new bar. `note` is not shown."""
        if stage != self._stage:
            self.close()
            self._stage, self._done = stage, 0
            if not sys.stderr.isatty():
                echo(stage, err=True)
                return
            self._bar = click.progressbar(length=total, label=f"{safe(stage):32}", file=sys.stderr)
            self._bar.__enter__()
        if self._bar is not None:
            self._bar.update(done - self._done)
        self._done = done

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


PATH = click.Path(path_type=Path)
"""The type of every path on the command line; the code that opens it checks that it exists."""

STDOUT = Path("-")
"""What `--json` takes for stdout."""


def untrusted_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--untrusted`."""
    return click.option(
        "--untrusted", is_flag=True, help="Treat FILE as malicious: load it in a separate process first."
    )(command)


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
        echo(f"  {finding.text}\n  {finding.remedy}")


def print_json(value: object) -> None:
    """Print one JSON document to stdout."""
    # ASCII, because a file name may hold bytes that no encoding of stdout accepts.
    echo(json.dumps(value, indent=1))


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
