"""edgecls sweep."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli import remote
from edgecls.cli.bulk import pool_at, ray_option
from edgecls.cli.terminal import PATH, echo, host_options, load_tensorflow, print_json, warn
from edgecls.cli.train import SETTINGS, Duration
from edgecls.config import ARCHS, BLOCKS, HEADS, AugmentConfig, ExportConfig, TrainConfig
from edgecls.parallel.pool import work_in
from edgecls.sweep.grid import IMAGE_SIZES, Space, list_candidates

if TYPE_CHECKING:
    from edgecls.remote.host import Host

REPORT_FILE, PICTURE_FILE = "sweep.json", "frontier.png"


class Milliseconds(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A latency, from text like 25, 25ms or 0.1s."""

    name = "latency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return milliseconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a latency; write 25ms or 0.1s", param, ctx)
        return float(match[1]) * (1000 if match[2] == "s" else 1)


class Several(click.ParamType):  # type: ignore[type-arg]
    """Values separated by commas, as a tuple without duplicates."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind, self.name = click.types.convert_type(kind), name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the values."""
        parts = value if isinstance(value, tuple) else value.split(",")
        return tuple(dict.fromkeys(self._kind.convert(part, param, ctx) for part in parts))


def _shown(values: tuple[Any, ...]) -> str:
    return f"  [default: {','.join(map(str, values))}]"


@click.command()
@click.argument("data", type=PATH)
@click.option("--budget", "budget_ms", required=True, type=Milliseconds(), help="Latency of one image: 25ms.")
@click.option("--board", help="A board that 'edgecls devices' lists.  [default: this machine, measured]")
@click.option("--device", "old_board", hidden=True)  # The former name of --board.
@click.option("--out", type=PATH, default=Path("sweep"), show_default=True, help="Folder for the runs and the result.")
@click.option(
    "--image-size", "image_sizes", type=Several(int, "n,n"), help=f"Image sizes in pixels.{_shown(IMAGE_SIZES)}"
)
@click.option("--alpha", "alphas", type=Several(float, "a,a"), help=f"Width multipliers.{_shown(Space.alphas)}")
@click.option("--blocks", type=Several(click.IntRange(1, BLOCKS), "n,n"), help="Blocks to keep.  [default: all]")
@click.option("--arch", "archs", type=Several(click.Choice(ARCHS), "a,a"), help=f"Networks.{_shown(Space.archs)}")
@click.option("--head", "heads", type=Several(click.Choice(HEADS), "h,h"), help=f"Heads.{_shown(Space.heads)}")
@click.option("--unfreeze", type=Several(int, "n,n"), help=f"Blocks to fine-tune.{_shown(Space.unfreeze)}")
@click.option("--bits", type=int, help=SETTINGS["bits"][1])
@click.option("--weights", default=TrainConfig.weights, show_default=True, help=SETTINGS["weights"][1])
@click.option("--epochs", type=int, default=TrainConfig.epochs, show_default=True, help="Maximum epochs.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Also train on augmented images.")
@click.option("--balance", is_flag=True, help=SETTINGS["balance"][1])
@click.option("--seed", type=int, default=TrainConfig.seed, show_default=True, help=SETTINGS["seed"][1])
@click.option(
    "--max-drop", type=float, default=ExportConfig.max_drop, show_default=True, help="Accuracy that a file may lose."
)
@click.option(
    "--time-budget", "time_budget_s", type=Duration(), help="Start no training that would end later: 30m, 2h."
)
@click.option("--full-grid", is_flag=True, help="Train all networks in full, however many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@host_options
@ray_option("Train and export")
def sweep(
    data: Path, out: Path, board: str | None, as_json: bool, host: Host | None, ray: str | None, **options: Any
) -> None:
    """Find the most accurate network for DATA within --budget, and what a slower or faster network would change.

    Networks that cannot meet the budget on the board are left out before any training. The others are trained into
    OUT/NAME, exported and scored from their files. On this machine, and with --host on a board, the files are timed;
    for any other board the time is an estimate. After an interruption, the same command continues. The exit status is
    1 if no network that can be shipped meets the budget.

    With --ray each network takes a machine with as many CPUs as this one. That machine needs edgecls[train], and DATA
    and OUT under the same paths; local:2 trains two at once. Files are timed on this machine. The result is the same.

    \b
    Examples:
      edgecls sweep photos --board raspberry-pi-4b --budget 25ms
      edgecls sweep photos --board coral-usb --budget 5ms --image-size 96,128 --head gap,flatten
      edgecls sweep photos --budget 3ms
      edgecls sweep photos --budget 25ms --host pi@raspberrypi.local --python env/bin/python
      edgecls sweep photos --budget 3ms --ray local
    """
    from edgecls.boards.cpus import allowed_cpus
    from edgecls.boards.profiles import load_profile
    from edgecls.cli.progress import LiveProgress
    from edgecls.files import write_json
    from edgecls.sweep.latency import benchmark_here
    from edgecls.sweep.plot import draw_frontier
    from edgecls.sweep.report import notes, text_report, to_json
    from edgecls.sweep.sweep import sweep as search
    from edgecls.sweep.trials import Request

    old_board = options.pop("old_board")
    board = board or old_board
    space = {name: options.pop(name) for name in ("image_sizes", "alphas", "archs", "blocks", "heads", "unfreeze")}
    request = {name: options.pop(name) for name in ("budget_ms", "max_drop", "time_budget_s", "full_grid")}
    augment = AugmentConfig() if options.pop("augment") else None
    base = TrainConfig(augment=augment, **options)
    candidates = list_candidates(Space(**{name: value for name, value in space.items() if value}), base)
    profile, benchmark = load_profile(board) if board else None, benchmark_here
    if host is not None:
        profile = load_profile(remote.find_device(host, board))
        benchmark = functools.partial(remote.benchmark, host)
    asked = Request(profile=profile, host=host.name if host else "", **request)
    load_tensorflow()
    try:
        # A whole machine each, of as many CPUs as this one has: TensorFlow's last bits depend on them.
        with pool_at(ray, len(allowed_cpus())) as pool, work_in(pool), LiveProgress() as progress:
            found = search(data, out, candidates, asked, progress, benchmark)
    except KeyboardInterrupt:
        echo("\nNothing is lost. Repeat the same command to continue.", err=True)
        raise
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
    if found.recommended is None:
        raise click.ClickException("no network can be recommended; see the reasons above")
