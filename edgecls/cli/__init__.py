"""The command line: one file for each command. The only folder that prints, exits or imports click.

Commands import heavy modules themselves, so that `edgecls predict` starts fast and works without TensorFlow.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from edgecls import __version__
from edgecls.cli.terminal import discard_unwritten, echo, for_stream, prepare_streams, warn
from edgecls.errors import ConfigError, EdgeclsError, ImageWarning

# The list of `edgecls --help`: command -> its module in `edgecls.cli`, imported on use, and its purpose.
SECTIONS = {
    "Make a file": {
        "demo": ("demo", "run everything once, on images that come with edgecls"),
        "audit": ("audit", "look for faults in a data set, before training"),
        "train": ("train", "train on a folder of class folders"),
        "import": ("import_model", "make a run of a Keras model from elsewhere"),
        "report": ("report", "show a run on one page: curves, mistakes, diagnosis"),
        "export": ("export", "write the exported files of a run and score each"),
        "sweep": ("sweep", "find the fastest network that keeps the accuracy"),
    },
    "Use it": {
        "predict": ("predict", "classify images"),
        "serve": ("serve", "show a file at work in a browser, answer HTTP requests"),
        "web": ("web", "write a page that classifies in the browser, without Python"),
        "evaluate": ("evaluate", "score a file on labeled images"),
        "compare": ("compare", "check that a new file is not worse than an old one"),
        "info": ("info", "labels, size and accuracy stored in a file"),
        "selftest": ("selftest", "check that this machine gives the expected predictions"),
    },
    "Make it fast": {
        "choose": ("choose", "find the fastest file and engine that keep the accuracy"),
        "benchmark": ("benchmark", "measure the latency, and whether it is valid"),
        "estimate": ("estimate", "predict the latency on another board"),
    },
    "Know the board": {
        "doctor": ("devices", "describe this machine and what to install on it"),
        "devices": ("devices", "list the boards that edgecls knows"),
        "check": ("devices", "check whether a file runs on a board"),
    },
}
COMMANDS = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as when a service is stopped or a machine is shut down."""


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM act as Ctrl-C does: files are cleaned up, and a run says how to resume it."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    # Keep the handler of a program that embeds edgecls, or that ignores SIGTERM.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def warnings_as_messages() -> Iterator[None]:
    """Show warnings about images as edgecls shows its own, without a line of source; others stay as they are."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ImageWarning):
            warn(str(message))
        else:
            usual(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


class Group(click.Group):
    """Finds commands, and turns all errors into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgecls.cli.{COMMANDS[cmd_name]}")
        # A function cannot be called "import".
        command: click.Command = getattr(module, "import_model" if cmd_name == "import" else cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return what Click returns; suggest the closest command for a mistyped name."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing and (close := _closest(args[0])):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in the order in which they are used."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command, whatever the standard streams are."""
        prepare_streams()
        try:
            with warnings_as_messages():
                return super().main(*args, **extra)
        except OSError as error:
            # Click itself could not write: the help, or a message.
            echo(f"Error: {_machine_fault(error)}", err=True)
            sys.exit(1)
        finally:
            discard_unwritten()

    def invoke(self, ctx: click.Context) -> Any:
        """Return what the command returns; errors of edgecls and of the system become Click's."""
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            error.message = for_stream(error.message, err=True)  # type: ignore[misc]  # Click's own, written once
            raise

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm_as_ctrl_c():
                return super().invoke(ctx)
        except Terminated:
            echo("Terminated!", err=True)
            raise click.exceptions.Exit(128 + signal.SIGTERM) from None
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except EdgeclsError as error:
            raise click.ClickException(str(error)) from error
        except (OSError, MemoryError, RuntimeError) as error:
            # Click itself handles EPIPE.
            if getattr(error, "errno", 0) in (None, errno.EPIPE) or not (text := _machine_fault(error)):
                raise
            raise click.ClickException(text) from error


def _machine_fault(error: OSError | MemoryError | RuntimeError) -> str:
    """Return the message of an error of the machine or of a path, or "" for any other error."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; close other programs"
    if isinstance(error, RuntimeError):
        # Python has no type of its own for this error.
        no_thread = "the machine cannot start another thread; close other programs, or allow more with: ulimit -u 4096"
        return no_thread if str(error) == "can't start new thread" else ""
    if error.errno == errno.ENOENT and error.filename is None and not _has_current_folder():
        return "the current folder was removed; change to another one with cd"
    remedy = "; allow more with: ulimit -n 1024" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
    return f"{error.strerror}: {error.filename or 'while reading or writing'}{remedy}"


def _has_current_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return False
    return True


def _closest(name: str) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(name, COMMANDS, n=1)), "")


# With "color" Click does not strip names that look like escape sequences.
@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "color": True}
)
@click.version_option(__version__, prog_name="edgecls")
def main() -> None:
    """Train a grayscale image classifier, export it to small int8 files, run them anywhere.

    \b
    Examples:
      edgecls demo                                  everything once, on images that come with edgecls
      edgecls train photos --out run                photos/ holds one folder of images for each class
      edgecls export run --int8                     writes run/export/model-int8.tflite and .onnx
      edgecls predict run/export/model-int8.tflite part.png
      edgecls export --help                         what else a command can do, with examples
    """
