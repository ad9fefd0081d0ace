"""edgecls sweep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli import remote
from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.data_options import LAYOUT, data_options, more_data
from edgecls.cli.option_types import DURATION, LATENCY, OutputFolder, Several, Size
from edgecls.cli.terminal import PATH, echo, host_options, load_tensorflow, print_json, warn
from edgecls.cli.train_options import SETTINGS, warn_of_other_archs
from edgecls.config import AugmentConfig, ExportConfig, TrainConfig
from edgecls.config.choices import ARCHS, BLOCKS, FINE_LEARNING_RATE, HEADS
from edgecls.parallel.pool import work_in
from edgecls.sweep.frontier import SMALL_GAIN
from edgecls.sweep.grid import SIZES, Space, list_candidates

if TYPE_CHECKING:
    from edgecls.remote.host import Host
    from edgecls.sweep.latency import Benchmark
    from edgecls.sweep.sweep import Sweep

REPORT_FILE, PICTURE_FILE = "sweep.json", "frontier.png"
FILES = {REPORT_FILE: "JSON", PICTURE_FILE: "PNG"}


def _shown(values: tuple[Any, ...]) -> str:
    return f"  [default: {','.join(map(str, values))}]"


# What makes a grid of networks that are all trained, and the option of each.
GRID = {"alphas": "--alpha", "archs": "--arch", "blocks": "--blocks", "heads": "--head", "unfreeze": "--unfreeze"}
GRID |= {"full_grid": "--full-grid", "image_sizes": "--image-size"}


def _is_grid(given: dict[str, Any], budget_ms: float | None) -> bool:
    """Return whether the user lists the networks to train."""
    listed = [name for name in GRID if given[name]]
    if budget_ms is None and (others := [name for name in listed if name != "image_sizes"]):
        raise click.UsageError(
            f"{GRID[others[0]]} needs --budget, which is what such networks are compared by. Without it, a sweep tries "
            "all depths at every --image-size"
        )
    return budget_ms is not None and bool(listed)


@click.command()
@click.argument("data", type=PATH, nargs=-1, required=True)
@click.option("--budget", "budget_ms", type=LATENCY, help="Longest latency of one image: 25ms.")
@click.option("--max-size", "max_size_bytes", type=Size(), help="Largest file: 500kB, 2MB.")
@click.option("--board", help="A board that 'edgecls devices' lists.  [default: this machine, measured]")
@click.option("--device", "old_board", hidden=True)  # The former name of --board.
@click.option(
    "--out",
    type=OutputFolder(FILES),
    default=Path("sweep"),
    show_default=True,
    help="Folder for the runs and the result.",
)
@click.option("--image-size", "image_sizes", type=Several(int, "n,n"), help=f"Image sizes in pixels.{_shown(SIZES)}")
@click.option("--alpha", "alphas", type=Several(float, "a,a"), help=f"Width multipliers.{_shown(Space.alphas)}")
@click.option("--blocks", type=Several(click.IntRange(1, BLOCKS), "n,n"), help="Blocks to keep.  [default: all]")
@click.option("--arch", "archs", type=Several(click.Choice(ARCHS), "a,a"), help=f"Networks.{_shown(Space.archs)}")
@click.option("--head", "heads", type=Several(click.Choice(HEADS), "h,h"), help=f"Heads.{_shown(Space.heads)}")
@click.option("--unfreeze", type=Several(int, "n,n"), help=f"Blocks to fine-tune.{_shown(Space.unfreeze)}")
@data_options((*LAYOUT, "resize", "roi", "bits"))
@click.option("--weights", default=TrainConfig.weights, show_default=True, help=SETTINGS["weights"][1])
@click.option("--epochs", type=int, default=TrainConfig.epochs, show_default=True, help="Maximum epochs.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Also train on augmented images.")
@click.option("--balance", is_flag=True, help=SETTINGS["balance"][1])
@click.option("--seed", type=int, default=TrainConfig.seed, show_default=True, help=SETTINGS["seed"][1])
@click.option(
    "--max-drop",
    type=float,
    help=f"Accuracy that a faster network may lose against the whole MobileNetV2.  [default: {SMALL_GAIN}]  With a "
    f"list of networks: that a file may lose against its float model.  [default: {ExportConfig.max_drop}]",
)
@click.option("--time-budget", "time_budget_s", type=DURATION, help="Start no training that would end later: 30m, 2h.")
@click.option("--full-grid", is_flag=True, help="Train all networks in full, however many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@host_options
@ray_option("Train and export")
def sweep(data: tuple[Path, ...], out: Path, as_json: bool, host: Host | None, ray: str | None, **options: Any) -> None:
    """Find the fastest network for DATA that is as accurate as the whole MobileNetV2, within --max-drop.

    DATA, one folder or several, is read as by train.

    A quick test of every depth (--blocks) at every image size shows which networks keep the accuracy; test images have
    no part in it. The fastest of them, a few faster ones and the whole MobileNetV2, of 224 pixels, are trained as by
    `edgecls train` into OUT/NAME, exported and scored from their files. On this machine, and with --host on a board,
    the files are timed; for any other board the time is an estimate. --budget and --max-size leave out what is too slow
    or too large.

    With --budget and one of --alpha, --arch, --blocks, --head, --unfreeze, --image-size or --full-grid, all these
    networks are trained, and the most accurate one within the budget is recommended.

    After an interruption, the same command continues. The exit status is 1 if no network can be recommended.

    With --ray each network takes a machine with as many CPUs as this one. That machine needs edgecls[train], and DATA
    and OUT under the same paths; local:2 trains two at once. Files are timed on this machine. The result is the same.

    \b
    Examples:
      edgecls sweep photos
      edgecls sweep photos --board raspberry-pi-4b --budget 25ms --max-size 1MB
      edgecls sweep photos --board coral-usb --budget 5ms --image-size 96,128 --head gap,flatten
      edgecls sweep photos --budget 3ms
      edgecls sweep photos --budget 25ms --host pi@raspberrypi.local --python env/bin/python
      edgecls sweep photos --budget 3ms --ray local
    """
    for folder in data:
        if out.resolve().is_relative_to(folder.resolve()):
            raise click.UsageError(f"--out {out} lies in {folder}, whose images are read; choose a folder outside it")
    board, old_board = options.pop("board"), options.pop("old_board")
    options["more_data"] = more_data(data)
    run = _plan(data[0], out, old_board if board is None else board, host, options)
    load_tensorflow()
    found = _run(run, ray)
    _print_sweep(found, out, as_json)
    if found.recommended is None:
        raise click.ClickException("no network can be recommended; see the reasons above")


def _plan(data: Path, out: Path, board: str | None, host: Host | None, options: dict[str, Any]) -> Callable[..., Sweep]:
    """Return the sweep that the options ask for; it takes `progress`.

    Raises:
        ConfigError: an option is out of range. click.UsageError: two options contradict each other.
    """
    from edgecls.sweep.search import search
    from edgecls.sweep.sweep import sweep as run_grid
    from edgecls.sweep.trials import Request

    limits = {name: options.pop(name) for name in ("budget_ms", "max_size_bytes", "time_budget_s", "full_grid")}
    space = {name: options.pop(name) for name in GRID if name != "full_grid"}
    max_drop, augment = options.pop("max_drop"), AugmentConfig() if options.pop("augment") else None
    # With the settings that sweeps of older versions have, which continue.
    given = {name: value for name, value in options.items() if value is not None}
    if not _is_grid(space | limits, limits["budget_ms"]):
        where, benchmark = _find_board(board, host)
        asked = Request(max_loss=SMALL_GAIN if max_drop is None else max_drop, **where, **limits)
        whole = TrainConfig(augment=augment, **given)
        return functools.partial(search, data, out, whole, asked, space["image_sizes"] or SIZES, benchmark=benchmark)
    base = TrainConfig(augment=augment, unfreeze=0, fine_learning_rate=FINE_LEARNING_RATE, **given)
    named = {"alphas": "alpha", "heads": "head"}
    warn_of_other_archs([named.get(name, name) for name in space if space[name]], space["archs"] or Space.archs)
    candidates = list_candidates(Space(**{name: value for name, value in space.items() if value}), base)
    where, benchmark = _find_board(board, host)
    asked = Request(max_drop=ExportConfig.max_drop if max_drop is None else max_drop, **where, **limits)
    return functools.partial(run_grid, data, out, candidates, asked, benchmark=benchmark)


def _find_board(board: str | None, host: Host | None) -> tuple[dict[str, Any], Benchmark]:
    """Return `profile` and `host` of a request, and what times files there."""
    from edgecls.boards.profiles import load_profile
    from edgecls.sweep.latency import benchmark_here

    # Before the host is asked, which may take a while.
    profile = None if board is None else load_profile(board)
    if host is None:
        return {"profile": profile}, benchmark_here
    profile = load_profile(remote.find_device(host, board))
    return {"profile": profile, "host": host.name}, functools.partial(remote.benchmark, host)


def _run(run: Callable[..., Sweep], ray: str | None) -> Sweep:
    from edgecls.boards.cpus import allowed_cpus
    from edgecls.cli.progress import LiveProgress

    try:
        # A whole machine each, of as many CPUs as this one has: TensorFlow's last bits depend on them.
        with pool_at(ray, len(allowed_cpus())) as pool, work_in(pool), LiveProgress() as progress:
            return run(progress=progress)
    except KeyboardInterrupt:
        echo("\nNothing is lost. Repeat the same command to continue.", err=True)
        raise


def _print_sweep(found: Sweep, out: Path, as_json: bool) -> None:
    """Write the document and the picture into `out`, and print the document or a text."""
    from edgecls.files import write_json
    from edgecls.sweep.plot import draw_frontier
    from edgecls.sweep.report import notes, text_report, to_json

    document = to_json(found)
    write_json(out / REPORT_FILE, document)
    draw_frontier(found, out / PICTURE_FILE)
    if as_json:
        print_json(document)
    else:
        echo(text_report(found))
        echo(f"Picture: {out / PICTURE_FILE}\nAll results: {out / REPORT_FILE}")
    for note in notes(found):
        warn(note)
