"""Commands on a board over ssh: the options `--host` and `--python`, its benchmark, its sweep."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls import __version__
from edgecls.cli.output import echo
from edgecls.cli.terminal import STDOUT, counting_left_out, print_json, warn
from edgecls.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.progress import Progress
    from edgecls.remote.bundle import FileBundle
    from edgecls.remote.host import Host

SHOWN_CHARACTERS = 200


def host_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--host` and `--python`; it gets them as `host`, None without `--host`."""

    @click.option("--host", metavar="USER@BOARD", help="Run it on this board, over ssh. Nothing stays there.")
    @click.option("--python", metavar="PATH", help="The Python there that has edgecls.  [default: python3]")
    @functools.wraps(command)
    def with_host(*args: Any, host: str | None, python: str | None, **options: Any) -> Any:
        if python is not None and host is None:
            raise click.UsageError("--python names the Python on a board; it needs --host")
        if host is not None and not host.strip():
            raise click.UsageError("--host needs a name such as pi@raspberrypi.local")
        return command(*args, host=_host(host, python) if host else None, **options)

    return with_host


def _host(name: str, python: str | None) -> Host:
    # Whoever predicts on this machine need not wait for these modules.
    from edgecls.remote.host import Host

    # Without a terminal nobody could answer what ssh asks.
    return Host(name, python or Host.python, asks=sys.stdin.isatty())


def pack_file(bundle: FileBundle, file: Path) -> str:
    """Return the name that an exported file gets on the board; raise ModelFileError if it is none."""
    from edgecls.model_file.read import read_model_file

    return bundle.add(file, str(file), f".{read_model_file(file).format}")


def run_on_host(
    host: Host,
    arguments: Sequence[str],
    bundle: FileBundle,
    on_line: Callable[[str], object],
    *,
    engine: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> int:
    """Return the exit status of an edgecls command that ran on a board.

    Args:
        host: to run it on.
        arguments: with the names that files have there; the first file decides which engine the board needs.
        bundle: those files.
        on_line: gets each line of its stdout. Its stderr is shown.
        engine: that was asked for.
        device: that was asked for.
        progress: told of files that are copied; None shows it.
    """
    from edgecls.boards.install import install_line
    from edgecls.cli.progress import LiveProgress
    from edgecls.remote.host import connect
    from edgecls.remote.ssh_errors import install_text
    from edgecls.runtime.engines import ALIASES, own_engine

    kind: Any = next(iter(bundle.files), "").rpartition(".")[2]
    needed = ALIASES.get(engine, engine) if engine else own_engine(kind)

    def install(facts: dict[str, Any]) -> str:
        return install_line(needed, device, machine=facts["machine"], python=tuple(facts["python"][:2]))

    def tell(line: str) -> None:
        echo(bundle.restore(line), err=True)

    with connect(host, install, tell) as connection:
        there = connection.facts["edgecls"]
        if there != __version__:
            warn(f"edgecls is {there} on {host.name} and {__version__} here; figures and answers are those of {there}")
        with contextlib.nullcontext(progress) if progress else LiveProgress() as told:
            connection.send(bundle.files, told)
        for line in connection.run(arguments):
            on_line(line)
        status = connection.finish()
    missing = re.search(r"; (pip (?:un)?install .*)", connection.last_words)
    if status and missing:
        echo(install_text(host.name, host.quoted_python, missing[1], connection.facts["pip"]), err=True)
    return status


def parse_answer(host: Host, text: str) -> Any:
    """Return the JSON document that a command on a board printed; raise RemoteError if it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RemoteError(
            f"edgecls on {host.name} printed {text[:SHOWN_CHARACTERS]!r}, which is no JSON; install the same version "
            f"there as here, {__version__}"
        ) from error


def measure(files: Sequence[Path], options: dict[str, Any], host: Host, progress: Progress | None = None) -> Record:
    """Return the record of a benchmark on a board; `machine` says which in `host`. Exits as it exits there."""
    from edgecls.benchmark.plan import Settings, plan
    from edgecls.benchmark.record import parse_record

    # What is wrong with the command is said before anything is copied.
    Settings(scope=options["scope"], seconds=options["seconds"], fps=options["fps"])
    plan(files, options["engines"], options["threads"], options["device"])
    document = _run(files, options, host, ["--json=-"], progress)
    record = parse_record(document, f"what edgecls on {host.name} measured")
    return replace(record, machine=record.machine | {"host": host.name})


def show_other(
    files: tuple[Path, ...], options: dict[str, Any], host: Host, json_path: Path | None, plot: Path | None
) -> None:
    """Print, and write on request, what `--profile` or `--mlperf` finds on a board. Exits as it exits there."""
    from edgecls.files import write_json

    if plot is not None:
        raise click.UsageError("--plot draws no profile of another machine; take --json, or run it on the board")
    kind = ["--profile"] if options["profile"] else [f"--mlperf={options['mlperf']}"]
    if json_path is None:
        bundle, arguments = _pack(files, options, kind)
        _finish(run_on_host(host, arguments, bundle, lambda line: echo(bundle.restore(line)), **_needs(options)))
        return
    document = _run(files, options, host, [*kind, "--json=-"])
    if json_path == STDOUT:
        print_json(document)
    else:
        write_json(json_path, document)


def _run(
    files: Sequence[Path], options: dict[str, Any], host: Host, more: list[str], progress: Progress | None = None
) -> Any:
    bundle, arguments = _pack(files, options, more)
    lines: list[str] = []
    _finish(run_on_host(host, arguments, bundle, lines.append, progress=progress, **_needs(options)))
    return bundle.restore(parse_answer(host, "\n".join(lines)))


def _pack(files: Sequence[Path], options: dict[str, Any], more: list[str]) -> tuple[FileBundle, list[str]]:
    from edgecls.benchmark.plan import list_images
    from edgecls.remote.bundle import FileBundle

    bundle = FileBundle()
    arguments = ["benchmark", *(pack_file(bundle, file) for file in files), *more]
    arguments += [f"--engine={engine}" for engine in options["engines"]]
    if options["threads"]:
        arguments.append(f"--threads={','.join(map(str, options['threads']))}")
    arguments += [f"--{name}={options[name]}" for name in ("device", "scope", "seconds")]
    if options["fps"] is not None:
        arguments.append(f"--fps={options['fps']}")
    if options["images"] is not None:
        folder = bundle.add_folder(str(options["images"]))
        with counting_left_out() as left_out:
            for image in list_images(options["images"], left_out):
                bundle.add(image, str(image), image.suffix or ".png", folder)
        arguments.append(f"--images={folder}")
    return bundle, arguments


def _needs(options: dict[str, Any]) -> dict[str, Any]:
    return {"engine": next(iter(options["engines"]), None), "device": options["device"]}


def _finish(status: int) -> None:
    if status:
        raise click.exceptions.Exit(status)


def find_device(host: Host, device: str | None) -> str:
    """Return the name of the board's profile, by `edgecls doctor` there; exits as it exits.

    Args:
        host: to ask, before anything is trained for it.
        device: the name that the user gave.

    Raises:
        ConfigError: it is another board, or has no profile and none was given.
    """
    from edgecls.remote.bundle import FileBundle

    lines: list[str] = []
    # Which engine is missing there, doctor says itself.
    if status := run_on_host(host, ["doctor", "--json"], FileBundle(), lines.append, engine="litert"):
        raise click.exceptions.Exit(status)
    found: str | None = parse_answer(host, "\n".join(lines)).get("device")
    if device and found and device != found:
        raise ConfigError(f"{host.name} is a {found}, not a {device}; leave --device out")
    if not device and not found:
        raise ConfigError(f"{host.name} is no board with a profile; name the one that is most like it with --device")
    return str(device or found)


def benchmark(host: Host, files: Sequence[Path], progress: Progress) -> Record:
    """Return what a board takes for the files; exits as `edgecls benchmark` exits there."""
    from edgecls.sweep.latency import SECONDS

    usual = {"engines": (), "threads": (), "device": "cpu", "scope": "invoke", "fps": None, "images": None}
    return measure(files, usual | {"seconds": SECONDS}, host, progress)
