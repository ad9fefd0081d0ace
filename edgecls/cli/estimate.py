"""edgecls estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, echo, print_json
from edgecls.cli.train_options import warn_of_other_archs
from edgecls.config import TrainConfig
from edgecls.config.choices import ARCHS, BLOCKS, HEADS
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import ENGINES, BoardMeasurement, Estimate, to_json
from edgecls.estimate.estimate import estimate as predict
from edgecls.estimate.model import COVERAGE
from edgecls.estimate.operators import KINDS, WEIGHT_BYTES, Network, count_network
from edgecls.limits import PRECISIONS
from edgecls.messages.lists import counted
from edgecls.messages.numbers import percent
from edgecls.runtime.engines import ALIASES

if TYPE_CHECKING:
    from edgecls.boards.profiles import Profile

# What was known when the left-out latencies were predicted.
EVIDENCE_TEXTS = {
    "measured": "one network was measured in the same setting on the board",
    "latency": "other latencies of the engine on the board were known",
    "engine": "latencies of other engines on the board were known",
    "board": "latencies of the engine on similar boards were known, and none of the board",
    "new": "no latency of the engine on any similar board was known",
    "network": "no latency of the network on any board was known",
}
NETWORK_OPTIONS = ("image_size", "alpha", "blocks", "head", "classes")


@click.command()
@click.argument("file", type=PATH, required=False)
@click.option("--board", help="A board that 'edgecls devices' lists.  [default: all of them, as a table]")
@click.option("--device", "old_board", hidden=True)  # The former name of --board.
@click.option("--arch", type=click.Choice(ARCHS), help="A network that is not trained yet, instead of FILE.")
@click.option("--image-size", type=int, help=f"With --arch: image size in pixels.  [default: {TrainConfig.image_size}]")
@click.option(
    "--alpha", type=float, help=f"With --arch: width multiplier of MobileNetV2.  [default: {TrainConfig.alpha}]"
)
@click.option("--blocks", type=int, help=f"With --arch: blocks of MobileNetV2 to keep, 1 to {BLOCKS}.  [default: all]")
@click.option("--head", type=click.Choice(HEADS), help=f"With --arch: kind of head.  [default: {TrainConfig.head}]")
@click.option("--classes", type=int, help="With --arch: number of classes.  [default: 2]")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), help="With --arch: precision.  [default: what suits the board]"
)
@click.option(
    "--engine", type=click.Choice([*ENGINES, *ALIASES]), help="Engine.  [default: what runs FILE, or suits the board]"
)
@click.option("--threads", type=int, help="Number of threads.  [default: what suits the board]")
@click.option("--measured", type=PATH, metavar="JSON", help="Calibrate with 'edgecls benchmark --json' of that board.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def estimate(file: Path | None, board: str | None, measured: Path | None, as_json: bool, **options: Any) -> None:
    """Predict the time of one image on a board that you do not have, for FILE or a network that is not trained yet.

    The prediction is learned from published latencies. Its interval and the errors come from cross-validation on them.

    \b
    Examples:
      edgecls estimate run/export/model-int8.tflite --board raspberry-pi-4b
      edgecls estimate --arch mobilenet_v2 --image-size 160 --alpha 0.5 --classes 6 --board raspberry-pi-4b
      edgecls estimate run/export/model-int8.tflite
      edgecls estimate model-int8.tflite --board raspberry-pi-4b --measured results.json
    """
    from edgecls.boards.profiles import load_profile, load_profiles
    from edgecls.estimate.measured import read_measured

    name = options["old_board"] if board is None else board
    if measured and name is None:
        raise click.UsageError("--measured needs --board: the board that it was measured on")
    profiles = load_profiles() if name is None else (load_profile(name),)
    network, settings = _network(file, options)
    known = read_measured(measured, profiles[0], [file] if file else []) if measured else ()
    found, refused = _estimate_all(network, settings | options, profiles, known)
    if name is not None and refused:
        raise ConfigError(refused[name])
    if as_json:
        documents = _documents(network, found, refused)
        print_json(documents if name is None else documents[0])
    elif name is not None:
        _print_one(network, found[name])
    else:
        _print_all(network, found, refused)


def _estimate_all(
    network: Network, settings: dict[str, Any], profiles: Sequence[Profile], known: Sequence[BoardMeasurement]
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Return the estimate for each board, and why there is none for the others."""
    found: dict[str, Estimate] = {}
    refused: dict[str, str] = {}
    for profile in profiles:
        precision = settings["file_precision"] or profile.recommended.precision
        # A file's own engine is for processors; an accelerator has one of its own.
        engine = settings["engine"] or (None if profile.accelerator else settings["file_engine"])
        try:
            found[profile.name] = predict(
                network, profile, precision, engine=engine, threads=settings["threads"], measured=known
            )
        except ConfigError as error:
            refused[profile.name] = str(error)
    return found, refused


def _network(file: Path | None, options: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Return the network, and the precision and engine that a file asks for."""
    from edgecls.estimate.graph_operators import read_network
    from edgecls.model_file.read import read_model_file
    from edgecls.runtime.engines import choose_engine, own_engine

    if (file is None) == (options["arch"] is None):
        raise click.UsageError("give either FILE or --arch")
    if file is None:
        given = {
            key: options[key] for key in ("arch", "image_size", "alpha", "blocks", "head") if options[key] is not None
        }
        config = TrainConfig(**given)
        warn_of_other_archs(given, (config.arch,))
        classes = 2 if options["classes"] is None else options["classes"]
        return count_network(config, classes), {
            "file_precision": options["precision"],
            "file_engine": None,
        }
    if own := [key for key in (*NETWORK_OPTIONS, "precision") if options[key] is not None]:
        raise click.UsageError(f"--{own[0].replace('_', '-')} needs --arch; for {file.name} the file decides it")
    network, spec = read_network(file)
    kind = read_model_file(file).format
    # An engine that does not run the file is an error.
    choose_engine(kind, options["engine"])
    return network, {"file_precision": spec.precision, "file_engine": own_engine(kind)}


def _documents(network: Network, found: dict[str, Estimate], refused: dict[str, str]) -> list[dict[str, Any]]:
    described = {
        "network": network.name,
        "multiply_adds": network.multiply_adds,
        "weights": network.weights,
        "operators": _counts(network),
    }
    answers = [
        described | {"weight_bytes": network.weights * WEIGHT_BYTES[e.precision]} | to_json(e) for e in found.values()
    ]
    return answers + [described | {"device": name, "refused": reason} for name, reason in refused.items()]


def _counts(network: Network) -> dict[str, int]:
    return {kind: count for kind in KINDS if (count := network.count(kind))}


def _print_one(network: Network, found: Estimate) -> None:
    validation = found.validation
    counts = ", ".join(f"{count} {kind}" for kind, count in _counts(network).items())
    moved = network.weights * WEIGHT_BYTES[found.precision]
    rows = {
        "network": f"{network.name}: {network.multiply_adds / 1e6:.1f} M multiply-adds, {moved:,} bytes of weights",
        "operators": counts,
        "setting": f"{found.device}, {found.precision} in {found.engine}, threads: {found.threads}",
        "estimate": f"{_ms(found)} for one image, the network alone",
        "calibrated": "yes, with a measurement on this board" if found.calibrated else "no",
        "errors": f"of {validation.latencies} published latencies that were left out, half were predicted within "
        f"{percent(validation.median_error, 0)}, and {percent(validation.coverage, 0)} lay inside such an interval; "
        f"{EVIDENCE_TEXTS[validation.evidence]}",
    }
    for label, text in rows.items():
        echo(f"{label:11} {text}")
    for note in found.notes:
        echo(f"{'note':11} {note}")
    echo("\nThe most similar published latencies:")
    for row in found.nearest_references:
        cores = counted(row.cores, "core")
        setting = f"{row.precision}, {cores}, {row.runtime or row.engine}, {row.processor}, {row.model}"
        echo(f"  {row.ms:8} ms {setting}\n{'':14}{row.source}")


def _ms(found: Estimate) -> str:
    low, p50, high = _times(found)
    return f"{p50} ms, {percent(COVERAGE, 0)} interval {low} to {high} ms"


def _times(found: Estimate) -> list[str]:
    from edgecls.benchmark.table import format_ms

    return [format_ms(ms, estimated=True) for ms in (found.low_ms, found.p50_ms, found.high_ms)]


def _print_all(network: Network, found: dict[str, Estimate], refused: dict[str, str]) -> None:
    from edgecls.benchmark.table import align

    echo(f"{network.name}: {network.multiply_adds / 1e6:.1f} M multiply-adds")
    rows = [["board", "p50 ms", "80 % interval", "median error", "setting"]]
    for name, row in sorted(found.items(), key=lambda item: item[1].p50_ms):
        low, p50, high = _times(row)
        setting = f"{row.precision}, {row.engine}, threads: {row.threads}"
        rows.append([name, p50, f"{low} to {high}", percent(row.validation.median_error, 0), setting])
    rows += [[name, "-", "", "", reason] for name, reason in refused.items()]
    echo(align(rows, left=(0, 4)))
