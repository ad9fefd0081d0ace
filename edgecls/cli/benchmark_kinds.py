"""The profile of a file, and timing by MLPerf's LoadGen: other kinds of `edgecls benchmark`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgecls.benchmark.plan import Settings
from edgecls.cli import remote
from edgecls.cli.terminal import counting_left_out, echo, warn, write_document

if TYPE_CHECKING:
    from edgecls.remote.host import Host

# Operators in the table; --json has all.
SHOWN_OPERATORS = 20
# Options that neither kind uses, with their defaults.
UNUSED = {"device": "cpu", "scope": Settings.scope, "fps": None, "compare": None, "force": False, "markdown": False}


def show(
    files: tuple[Path, ...], options: dict[str, Any], host: Host | None, json_path: Path | None, plot: Path | None
) -> None:
    """Print, and write on request, the result of `--profile` or `--mlperf`, on this machine or on a board."""
    _check_options(options | {"plot": plot})
    if host is not None:
        remote.show_other(files, options, host, json_path, plot)
    elif options["profile"]:
        profile(files, options, json_path, plot)
    else:
        mlperf(files, options, json_path)


def _check_options(options: dict[str, Any]) -> None:
    """Raise UsageError for an option that would have no effect, and ConfigError for seconds out of range."""
    kind, more = ("profile", ("mlperf", "images")) if options["profile"] else ("mlperf", ("plot",))
    if unused := [name for name in (*UNUSED, *more) if options[name] != UNUSED.get(name)]:
        raise click.UsageError(f"--{kind} does not use --{unused[0]}; leave out one of the two")
    Settings(seconds=options["seconds"])


def profile(files: tuple[Path, ...], options: dict[str, Any], json_path: Path | None, plot: Path | None) -> None:
    """Print, and write on request, the time of each operator of one file."""
    from edgecls.profiling.plot import draw_profile
    from edgecls.profiling.profile import profile_file, profile_table

    if len(files) != 1:
        raise click.UsageError(f"--profile takes one file; received {len(files)}")
    found = profile_file(files[0], _only(options["engines"]), _only(options["threads"]), options["seconds"])
    if plot is not None:
        draw_profile(found, plot)
    if not write_document(dataclasses.asdict(found), json_path):
        echo(profile_table(found, SHOWN_OPERATORS))


def mlperf(files: tuple[Path, ...], options: dict[str, Any], json_path: Path | None) -> None:
    """Print LoadGen's times of each file beside ours."""
    from edgecls.benchmark.loadgen import run_loadgen
    from edgecls.benchmark.plan import list_images
    from edgecls.images.decode import load_gray
    from edgecls.model_file.read import read_spec

    if options["images"] is None:
        raise click.UsageError("--mlperf needs images; pass a folder with --images DIR")
    with counting_left_out() as left_out:
        paths = list_images(options["images"], left_out)
    results = []
    for file in files:
        spec = read_spec(file)
        size = spec.height, spec.width, spec.preprocessing
        images = np.stack([load_gray(path, *size) for path in paths])
        found = run_loadgen(
            file, images, options["mlperf"], _only(options["engines"]), _only(options["threads"]), options["seconds"]
        )
        results.append(dataclasses.asdict(found))
        if not found.loadgen.valid:
            warn(f"LoadGen calls its times of {found.file} invalid: {'; '.join(found.loadgen.causes)}")
    if write_document(results, json_path):
        return
    for result in results:
        echo(f"{result['file']} in {result['engine']} {result['engine_version']}, {result['threads']} threads")
        for whose in ("loadgen", "ours"):
            times = result[whose]
            shown = [f"{name} {times[name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms") if times[name]]
            echo(f"  {whose:8} {'  '.join(shown)}  {times['per_second']:.1f} per second")


def _only(values: tuple[Any, ...]) -> Any:
    """Return the one value given, or None."""
    if len(values) > 1:
        raise click.UsageError(f"--profile and --mlperf take one engine and one number of threads; received {values}")
    return values[0] if values else None
