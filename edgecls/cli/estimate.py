"""edgecls estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.output import echo
from edgecls.cli.terminal import PATH, print_json
from edgecls.config import ARCHS, HEADS, TrainConfig
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import ENGINES
from edgecls.limits import PRECISIONS
from edgecls.runtime.engines import ALIASES

if TYPE_CHECKING:
    from edgecls.estimate.estimate import Estimate
    from edgecls.estimate.operators import Network

# What was known of the left-out figures -> in words.
GROUNDS = {
    "measured": "one network measured in the same setting on the board",
    "figure": "other figures of the same engine on the board",
    "engine": "figures of other engines on the board",
    "board": "nothing of the board, and figures of the engine on others of its group",
    "new": "nothing of the engine on any processor of the group",
    "network": "nothing of the network on any board",
}
NETWORK_OPTIONS = ("image_size", "alpha", "head", "classes")


@click.command()
@click.argument("file", type=PATH, required=False)
@click.option("--device", "name", help="A name that 'edgecls devices' lists.  [default: all of them, as a table]")
@click.option("--arch", type=click.Choice(ARCHS), help="Instead of FILE: a network that was not trained yet.")
@click.option("--image-size", type=int, help=f"With --arch: side in pixels.  [default: {TrainConfig.image_size}]")
@click.option("--alpha", type=float, help=f"With --arch: width of MobileNetV2.  [default: {TrainConfig.alpha}]")
@click.option("--head", type=click.Choice(HEADS), help=f"With --arch.  [default: {TrainConfig.head}]")
@click.option("--classes", type=int, help="With --arch: how many scores it gives.  [default: 2]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="With --arch.  [default: what suits the board]")
@click.option("--engine", type=click.Choice([*ENGINES, *ALIASES]), help="[default: what runs FILE, or suits the board]")
@click.option("--threads", type=int, help="[default: what suits the board]")
@click.option("--measured", type=PATH, metavar="JSON", help="Of 'edgecls benchmark --json' on that board: calibrates.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def estimate(file: Path | None, name: str | None, measured: Path | None, as_json: bool, **options: Any) -> None:
    """Predict how long one image takes on a board that is not here, for FILE or for a network yet to be trained.

    The prediction is learnt from published latencies; its interval and the errors shown come from leaving them out.

    \b
    Examples:
      edgecls estimate run/export/model-int8.tflite --device raspberry-pi-4b
      edgecls estimate --arch mobilenet_v2 --image-size 160 --alpha 0.5 --classes 6 --device raspberry-pi-4b
      edgecls estimate run/export/model-int8.tflite
      edgecls estimate model-int8.tflite --device raspberry-pi-4b --measured results.json
    """
    from edgecls.boards.profiles import load_profile, load_profiles
    from edgecls.estimate.estimate import estimate as predict
    from edgecls.estimate.measured import read_measured

    if measured and not name:
        raise click.UsageError("--measured needs the --device that it was measured on")
    profiles = (load_profile(name),) if name else load_profiles()
    network, settings = _network(file, options)
    known = read_measured(measured, profiles[0], [file] if file else []) if measured else ()
    found: dict[str, Estimate] = {}
    refused: dict[str, str] = {}
    for profile in profiles:
        precision = settings["precision"] or profile.recommended.precision
        # A file's own engine is for processors; accelerators have one each.
        engine = options["engine"] or (None if profile.accelerator else settings["engine"])
        try:
            found[profile.name] = predict(
                network, profile, precision, engine=engine, threads=options["threads"], measured=known
            )
        except ConfigError as error:
            if name:
                raise
            refused[profile.name] = str(error)
    if as_json:
        documents = _documents(network, found, refused)
        print_json(documents[0] if name else documents)
    elif name:
        _print_one(network, found[name])
    else:
        _print_all(network, found, refused)


def _network(file: Path | None, options: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return the network, and the precision and engine that a file asks for."""
    from edgecls.estimate.graph_operators import read_network
    from edgecls.estimate.operators import count_network
    from edgecls.model_file.read import read_model_file
    from edgecls.runtime.engines import own_engine

    if (file is None) == (options["arch"] is None):
        raise click.UsageError("give either FILE or --arch")
    if file is None:
        given = {key: options[key] for key in ("arch", "image_size", "alpha", "head") if options[key] is not None}
        classes = 2 if options["classes"] is None else options["classes"]
        return count_network(TrainConfig(**given), classes), {"precision": options["precision"], "engine": None}
    if own := [key for key in (*NETWORK_OPTIONS, "precision") if options[key] is not None]:
        raise click.UsageError(f"--{own[0].replace('_', '-')} is for --arch; {file.name} has its own")
    network, spec = read_network(file)
    kind = read_model_file(file).format
    return network, {"precision": spec.precision, "engine": own_engine(kind)}


def _documents(network: Network, found: dict[str, Estimate], refused: dict[str, str]) -> list[dict[str, Any]]:
    from edgecls.estimate.estimate import to_json

    described = {
        "network": network.name,
        "multiply_adds": network.multiply_adds,
        "weights": network.weights,
        "operators": _counts(network),
    }
    answers = [described | {"weight_bytes": _weight_bytes(network, e.precision)} | to_json(e) for e in found.values()]
    return answers + [described | {"device": device, "refused": why} for device, why in refused.items()]


def _counts(network: Network) -> dict[str, int]:
    from edgecls.estimate.operators import KINDS

    return {kind: count for kind in KINDS if (count := network.count(kind))}


def _weight_bytes(network: Network, precision: str) -> int:
    from edgecls.estimate.operators import WEIGHT_BYTES

    return network.weights * WEIGHT_BYTES[precision]


def _print_one(network: Network, found: Estimate) -> None:
    validation = found.validation
    counts = ", ".join(f"{count} {kind}" for kind, count in _counts(network).items())
    moved = _weight_bytes(network, found.precision)
    rows = {
        "network": f"{network.name}: {network.multiply_adds / 1e6:.1f} M multiply-adds, {moved:,} bytes of weights",
        "operators": counts,
        "setting": f"{found.device}, {found.precision} in {found.engine}, threads: {found.threads}",
        "estimate": f"{_ms(found)} for one image, the network alone",
        "calibrated": "yes: a measurement on this board took part" if found.calibrated else "no",
        "errors": f"of {validation.figures} published latencies that were left out, half were predicted within "
        f"{validation.median_error:.0%} and {validation.coverage:.0%} lay inside such an interval; known was "
        f"{GROUNDS[validation.grounds]}",
    }
    for label, text in rows.items():
        echo(f"{label:11} {text}")
    for note in found.notes:
        echo(f"{'note':11} {note}")
    echo("\nIt leans most on these published latencies:")
    for row in found.leans_on:
        cores = f"{row.cores} core{'s' if row.cores > 1 else ''}"
        setting = f"{row.precision}, {cores}, {row.runtime or row.engine}, {row.processor}, {row.model}"
        echo(f"  {row.ms:8} ms {setting}\n{'':14}{row.source}")


def _ms(found: Estimate) -> str:
    from edgecls.estimate.grounds import COVERAGE

    low, middle, high = (_digits(value) for value in (found.low_ms, found.p50_ms, found.high_ms))
    return f"{middle} ms, {COVERAGE:.0%} interval {low} to {high} ms"


def _digits(ms: float) -> str:
    """Return a time in two digits after the point below 10 ms, one below 100 ms, none above: no more is known."""
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def _print_all(network: Network, found: dict[str, Estimate], refused: dict[str, str]) -> None:
    echo(f"{network.name}: {network.multiply_adds / 1e6:.1f} M multiply-adds")
    echo(f"{'device':26} {'p50 ms':>8} {'80 % interval':>17}  {'left-out error':>14}  setting")
    for device, row in sorted(found.items(), key=lambda item: item[1].p50_ms):
        interval = f"{_digits(row.low_ms)} to {_digits(row.high_ms)}"
        setting = f"{row.precision}, {row.engine}, threads: {row.threads}"
        error = f"{row.validation.median_error:.0%}"
        echo(f"{device:26} {_digits(row.p50_ms):>8} {interval:>17}  {error:>14}  {setting}")
    for device, why in refused.items():
        echo(f"{device:26} {'-':>8} {why}")
