"""Commands on a host over ssh: the options `--host` and `--python`, and what benchmark and sweep do with them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls import __version__
from edgecls.cli.terminal import counting_left_out, echo, warn, write_document
from edgecls.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.progress import Progress
    from edgecls.remote.bundle import FileBundle
    from edgecls.remote.host import Host

SHOWN_CHARACTERS = 200


def pack_file(bundle: FileBundle, file: Path) -> str:
    """Add an exported file to the bundle and return its remote name; raise ModelFileError if it is none."""
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
    """Run an edgecls command on a host and return its exit status.

    Args:
        host: to run it on.
        arguments: with the remote names of files; the first file decides which engine the host needs.
        bundle: the files.
        on_line: gets each line of stdout. stderr is shown.
        engine: requested engine.
        device: requested device.
        progress: called for each copied file; None shows it.
    """
    from edgecls.cli.progress import LiveProgress
    from edgecls.remote.host import connect
    from edgecls.remote.ssh_errors import install_text

    def install(facts: dict[str, Any]) -> str:
        return _install(facts, bundle, engine, device)

    with connect(host, install, lambda line: echo(bundle.restore(line), err=True)) as connection:
        if (remote := connection.facts["edgecls"]) != __version__:
            warn(f"edgecls is {remote} on {host.name} and {__version__} on this machine; the results are of {remote}")
        with contextlib.nullcontext(progress) if progress else LiveProgress() as shown:
            connection.send(bundle.files, shown)
        for line in connection.run(arguments):
            on_line(line)
        status = connection.finish()
    missing = re.search(r"; (pip (?:un)?install .*)", connection.last_stderr_line)
    if status and missing:
        echo(install_text(host.name, host.quoted_python, missing[1], connection.facts["pip"]), err=True)
    return status


def _install(facts: dict[str, Any], bundle: FileBundle, engine: str | None, device: str) -> str:
    """Return the pip line that installs edgecls with the needed engine on a host, given `Connection.facts`."""
    from edgecls.boards.install import install_line
    from edgecls.runtime.engines import ALIASES, own_engine

    kind: Any = next(iter(bundle.files), "").rpartition(".")[2]
    needed = ALIASES.get(engine, engine) if engine else own_engine(kind)
    return install_line(needed, device, machine=facts["machine"], python=tuple(facts["python"][:2]))


def parse_answer(host: Host, text: str) -> Any:
    """Return the JSON document that a remote command printed; raise RemoteError if it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RemoteError(
            f"edgecls on {host.name} printed {text[:SHOWN_CHARACTERS]!r}, which is not JSON. Install version "
            f"{__version__} on it, as on this machine"
        ) from error


def measure(files: Sequence[Path], options: dict[str, Any], host: Host, progress: Progress | None = None) -> Record:
    """Return the record of a benchmark on a host, named in `machine`; exit with its status if it fails."""
    from edgecls.benchmark.plan import Settings, plan
    from edgecls.benchmark.record import parse_record

    # Wrong options are reported before anything is copied.
    Settings(scope=options["scope"], seconds=options["seconds"], fps=options["fps"])
    plan(files, options["engines"], options["threads"], options["device"])
    document = _run(files, options, host, ["--json=-"], progress)
    record = parse_record(document, f"what edgecls on {host.name} measured")
    return replace(record, machine=record.machine | {"host": host.name})


def show_other(
    files: tuple[Path, ...], options: dict[str, Any], host: Host, json_path: Path | None, plot: Path | None
) -> None:
    """Print or write the result of `--profile` or `--mlperf` on a host; exit with its status if it fails."""
    if plot is not None:
        raise click.UsageError("--plot cannot draw the profile of another machine. Use --json, or run it on the board")
    kind = ["--profile"] if options["profile"] else [f"--mlperf={options['mlperf']}"]
    if json_path is None:
        bundle, arguments = _pack(files, options, kind)
        _finish(run_on_host(host, arguments, bundle, lambda line: echo(bundle.restore(line)), **_needs(options)))
        return
    document = _run(files, options, host, [*kind, "--json=-"])
    write_document(document, json_path)


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
    """Return the name of a host's board profile, which its `edgecls doctor` finds; exit with its status if it fails.

    Args:
        host: to ask.
        device: the board that the user named.

    Raises:
        ConfigError: the host is another board, or has no profile and none was named.
    """
    from edgecls.remote.bundle import FileBundle

    lines: list[str] = []
    # doctor itself reports a missing engine.
    if status := run_on_host(host, ["doctor", "--json"], FileBundle(), lines.append, engine="litert"):
        raise click.exceptions.Exit(status)
    found: str | None = parse_answer(host, "\n".join(lines)).get("device")
    if device and found and device != found:
        raise ConfigError(f"{host.name} is a {found}, not a {device}; leave --board out")
    if not device and not found:
        raise ConfigError(f"{host.name} is no board with a profile; name the one that is most like it with --board")
    return str(device or found)


def benchmark(host: Host, files: Sequence[Path], progress: Progress) -> Record:
    """Return the benchmark of the files on a host; exit with its status if it fails."""
    from edgecls.sweep.latency import SECONDS

    usual = {"engines": (), "threads": (), "device": "cpu", "scope": "invoke", "fps": None, "images": None}
    return measure(files, usual | {"seconds": SECONDS}, host, progress)


def check_open(source: Path | bytes) -> None:
    """Raise DataError for a path that is not a readable file."""
    from edgecls.images.decode import load_gray
    from edgecls.limits import MAX_FILE_BYTES

    if isinstance(source, Path) and not (
        source.is_file() and os.access(source, os.R_OK) and source.stat().st_size <= MAX_FILE_BYTES
    ):
        load_gray(source, 1, 1)
