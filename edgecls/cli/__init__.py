"""The command line: one file a command. The only folder that prints, exits or imports click.

Bodies are a few lines. Heavy modules are imported inside the commands that need them, so that `edgecls predict` starts
fast and works where TensorFlow is not installed.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from edgecls import __version__
from edgecls.cli.output import discard_unwritten, echo, for_stream, prepare_streams
from edgecls.errors import ConfigError, EdgeclsError

# What `edgecls --help` lists: command -> the module of `edgecls.cli` that holds it, and what it is for. The module is
# imported when the command is asked for: what `predict` does not need must not slow it down.
SECTIONS = {
    "Make a file": {
        "demo": ("demo", "everything once, on images that come with edgecls"),
        "train": ("train", "learn from a folder of class folders"),
        "report": ("report", "a run on one page: curves, mistakes, diagnosis"),
        "export": ("export", "write the files of a run, and score each"),
        "sweep": ("sweep", "find the best network for a latency budget"),
    },
    "Use it": {
        "predict": ("predict", "classify images"),
        "evaluate": ("evaluate", "score a file on labelled images"),
        "info": ("info", "what a file says of itself"),
        "selftest": ("selftest", "does this machine give the answers it was tested with?"),
    },
    "Make it fast": {
        "choose": ("choose", "the fastest file and engine that keep the accuracy"),
        "benchmark": ("benchmark", "how fast is it, and can the figure be trusted?"),
        "estimate": ("estimate", "milliseconds on a board that is not here"),
    },
    "Know the board": {
        "doctor": ("devices", "what this machine is, and what to install on it"),
        "devices": ("devices", "the boards that edgecls knows"),
        "check": ("devices", "does this file run on that board?"),
    },
}
COMMANDS = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whoever stops a service or shuts a machine down sends it."""


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end what is under way as Ctrl-C does: files are cleaned up, and a run says how to go on with it."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    # A program that runs us as a part of itself, or has it ignored, knows better.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Group(click.Group):
    """Finds commands, and turns our errors into a message and an exit code, in this one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgecls.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return what Click returns; of a mistyped name, say which is meant."""
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
            return super().main(*args, **extra)
        except OSError as error:
            # Click itself could not write: the help, or a message.
            echo(f"Error: {_machine_fault(error)}", err=True)
            sys.exit(1)
        finally:
            discard_unwritten()

    def invoke(self, ctx: click.Context) -> Any:
        """Return what the command returns; our errors and the machine's become Click's."""
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
        return "the current folder does not exist any more; go to another one with cd"
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


# With "color" Click leaves alone what looks like an escape sequence in a name.
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
