"""edgecls export --prepared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import echo, load_tensorflow
from edgecls.config import ExportConfig
from edgecls.messages.numbers import percent

if TYPE_CHECKING:
    from edgecls.export.prepared import PreparedResult

# Formats that only --prepared writes.
PREPARED_ONLY = ("keras", "npz")
KINDS = (*PREPARED_ONLY, "onnx")
# Settings of export that change the prepared network; the others do not apply to it.
USED = ("max_drop", "prune", "per_tensor")
# The others, which must be left out: what they are then, if not None.
DEFAULTS = {
    "input": "gray",
    "golden": True,
    "int8": False,
    "fp16": False,
    "fp32": False,
    "heatmap": False,
    "layers": False,
}


def export_prepared(run: Path, out: Path | None, data: Path | None, settings: dict[str, Any]) -> None:
    """Write and show the prepared network; `settings` are the options of export, of which most do not apply."""
    kinds = settings["formats"]
    others = [
        name for name, value in settings.items() if name not in (*USED, "formats") and value != DEFAULTS.get(name)
    ]
    if unfit := [*(kind for kind in kinds if kind not in KINDS), *others]:
        raise click.UsageError(
            f"--prepared takes --format {', '.join(KINDS)}, --prune, --per-tensor, --max-drop, --out and --data; "
            f"received {', '.join(unfit)}"
        )
    load_tensorflow()
    from edgecls.export import prepared

    config = ExportConfig(**{name: settings[name] for name in USED})
    with LiveProgress() as bars:
        result = prepared.export_prepared(run, config, kinds or KINDS, out=out, data=data, progress=bars)
    _print_result(result)


def _print_result(result: PreparedResult) -> None:
    from edgecls.export.gate import format_change

    echo(f"{'file':16} {'bytes':>10} {'accuracy':>9} {'change':>7}")
    echo(f"{'(Keras, float)':16} {'':>10} {percent(result.float_accuracy, 2):>9}")
    for file in result.files:
        measured = file.comparison
        figures = f"{file.bytes:10,} {percent(measured.accuracy, 2):>9} {format_change(measured.drop):>7}"
        echo(f"{file.path:16} {figures}  {measured.verdict}")
    echo(f"{result.images} held-out images; {result.calibration_images} calibration images; all in {result.folder}")
    echo("These files are not quantized. Quantize them with the toolkit of your chip, and measure what it writes.")
