"""edgecls benchmark."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.benchmark.plan import SCOPES, Settings
from edgecls.cli import benchmark_kinds, remote
from edgecls.cli.option_types import OutputFile, Several
from edgecls.cli.terminal import PATH, STDOUT, counting_left_out, echo, host_options, print_json, warn
from edgecls.messages.names import safe
from edgecls.runtime.engines import ALIASES, DEVICES, HARDWARE_ENGINES

if TYPE_CHECKING:
    from edgecls.benchmark.record import Record
    from edgecls.remote.host import Host


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice([*HARDWARE_ENGINES, *ALIASES]),
    help="Engine.  [default: the first that fits]",
)
@click.option(
    "--threads", type=Several(int, "n,n"), default=(), help="Numbers of threads to measure.  [default: the fast cores]"
)
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True, help="Device that computes.")
@click.option("--scope", type=click.Choice(SCOPES), default=Settings.scope, show_default=True, help="What is timed.")
@click.option("--images", type=PATH, metavar="DIR", help="Images to use; --scope end-to-end needs them.")
@click.option(
    "--seconds", type=float, default=Settings.seconds, show_default=True, help="Time for each configuration, at least."
)
@click.option("--fps", type=float, help="Simulate a camera of this rate, and count dropped frames.")
@click.option("--profile", is_flag=True, help="Show the time of each operator of one file.")
@click.option("--mlperf", type=click.Choice(("single-stream", "offline")), help="Time it with MLPerf's LoadGen too.")
@click.option(
    "--json", "json_path", type=OutputFile("JSON"), metavar="PATH", help="Write all results and samples; - for stdout."
)
@click.option("--compare", type=PATH, metavar="OLD.json", help="Compare with OLD.json; exit with 1 if slower.")
@click.option("--force", is_flag=True, help="Compare even different machines, scopes or models.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--plot", type=OutputFile("PNG"), metavar="PNG", help="Draw latency, and accuracy against latency.")
@host_options
def benchmark(
    files: tuple[Path, ...], json_path: Path | None, plot: Path | None, host: Host | None, **options: Any
) -> None:
    """Time exported FILEs, each in a process of its own, in alternating batches, and check that the times are valid.

    \b
    Examples:
      edgecls benchmark run/export/model-int8.tflite run/export/model-int8.onnx --threads 1,4
      edgecls benchmark model-int8.tflite --scope end-to-end --images photos --fps 30
      edgecls benchmark model-int8.tflite --json new.json --compare old.json
      edgecls benchmark model-int8.tflite --profile --plot profile.png
      edgecls benchmark model-int8.tflite --host pi@raspberrypi.local --python env/bin/python
    """
    from edgecls.benchmark.record import read_record, write_record

    if plot is not None and find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs Matplotlib: pip install matplotlib")
    if options["profile"] or options["mlperf"]:
        return benchmark_kinds.show(files, options, host, json_path, plot)
    # Read first, because measuring takes minutes.
    old = read_record(options["compare"]) if options["compare"] else None
    record = remote.measure(files, options, host) if host else _measure(files, options)
    if json_path is not None and json_path != STDOUT:
        write_record(record, json_path)
    if plot is not None:
        from edgecls.benchmark.plot import draw_benchmark

        draw_benchmark(record, plot)
    if json_path == STDOUT:
        print_json(record.to_json())
    else:
        _print_table(record, options["markdown"])
    if host is None:  # A board has printed its own warning.
        _warn(record)
    if old is not None:
        _compare(old, record, options["force"], to_stderr=json_path == STDOUT)


def _measure(files: tuple[Path, ...], options: dict[str, Any]) -> Record:
    from edgecls.benchmark.plan import list_images, plan
    from edgecls.benchmark.session import run_benchmark
    from edgecls.cli.progress import LiveProgress

    settings = Settings(scope=options["scope"], seconds=options["seconds"], fps=options["fps"])
    with counting_left_out() as left_out:
        images = list_images(options["images"], left_out) if options["images"] else ()
    configurations = plan(files, options["engines"], options["threads"], options["device"], images)
    with LiveProgress() as progress:
        return run_benchmark(configurations, settings, progress=progress)


def _print_table(record: Record, markdown: bool) -> None:
    from edgecls.benchmark import table

    if markdown:
        echo(table.markdown_table(record))
    elif sys.stdout.isatty() and find_spec("rich") is not None:
        from rich.console import Console

        console = Console(markup=False, emoji=False)
        console.print(table.rich_table(record, console.width, safe))
        for line in table.warning_lines(record):
            echo(line)
    else:
        echo(table.text_table(record))


def _warn(record: Record) -> None:
    invalid = [result for result in record.results if not result.valid]
    if invalid:
        causes = ", ".join(dict.fromkeys(cause for result in invalid for cause in result.causes))
        warn(f"{len(invalid)} of {len(record.results)} results are not valid: {causes}")


def _compare(old: Record, new: Record, force: bool, to_stderr: bool) -> None:
    from edgecls.benchmark.compare import compare_records, unpaired
    from edgecls.benchmark.table import comparison_table

    comparisons = compare_records(old, new, force=force)
    echo(comparison_table(comparisons), err=to_stderr)
    if missing := unpaired(old, new):
        warn(f"not in the old file: {'; '.join(missing)}")
    slower = [each.name for each in comparisons if each.verdict == "slower"]
    if slower:
        raise click.ClickException(f"slower than before, beyond the noise: {'; '.join(slower)}")
