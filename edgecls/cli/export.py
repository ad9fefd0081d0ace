"""edgecls export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.boards.profiles import export_target, load_profile
from edgecls.boards.targets import TARGETS, Target, find_target
from edgecls.cli.export_prepared import PREPARED_ONLY, export_prepared
from edgecls.cli.inspection import limit_options, print_inspection
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, echo, load_tensorflow, warn
from edgecls.cli.web import write_page
from edgecls.config import ExportConfig
from edgecls.limits import FORMATS, INPUTS, PRECISIONS
from edgecls.messages.lists import counted
from edgecls.messages.numbers import percent

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult
    from edgecls.export.export_folder import ExportedFile

# An accelerator -> what it is called, and the board that is named if the user named none.
NPUS = {"edgetpu": "an Edge TPU", "ethos-u": "an Ethos-U"}
USUAL_BOARDS = {"edgetpu": "coral-usb", "ethos-u": "nxp-imx93"}
SEVEN_BITS = (
    "The int8 ONNX file has 7-bit weights, since sums of 8-bit ones overflow on a processor without VNNI, as this one "
    "seems to be. If it is for another processor, name it with --board."
)


@click.command()
@click.argument("run", type=PATH)
@click.option("--int8", "int8", is_flag=True, help="8-bit integers: the smallest and fastest files.")
@click.option("--fp16", "fp16", is_flag=True, help="16-bit float weights: half the size of fp32.")
@click.option("--fp32", "fp32", is_flag=True, help="32-bit float; the default if no precision is given.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice((*FORMATS, *PREPARED_ONLY)),
    help="tflite or onnx; with --prepared keras, npz or onnx.  [default: all that the board runs]",
)
@click.option(
    "--max-drop",
    type=float,
    default=ExportConfig.max_drop,
    show_default=True,
    help="Accuracy that a file may lose; 0.01 is one point.",
)
@click.option(
    "--board",
    help=f"Board or processor that runs the int8 files: a name from 'edgecls devices', or {', '.join(TARGETS)}."
    "  [default: this machine]",
)
@click.option("--device", "old_board", hidden=True, help="The former name of --board.")
@click.option(
    "--input",
    type=click.Choice(INPUTS),
    default=ExportConfig.input,
    show_default=True,
    help="rgb: TFLite files that take RGB pixels and load in MediaPipe's ImageClassifier, in RUN/export-rgb.",
)
@click.option("--heatmap", is_flag=True, help="Files also output which part of the image speaks for each class.")
@click.option(
    "--prepared",
    is_flag=True,
    help="Write the float network as it is just before int8, with calibration images, for another vendor's quantizer.",
)
@click.option(
    "--per-tensor", is_flag=True, help="One scale for all weights of a layer, as some NPUs need it; less accurate."
)
@click.option("--layers", is_flag=True, help="Also measure the error of each layer of the int8 TFLite file.")
@click.option(
    "--prune",
    type=float,
    default=ExportConfig.prune,
    show_default=True,
    help="Maximum KL divergence from removing channels that the training images hardly use: 0 keeps all channels, "
    "0.1 makes int8 files faster and less accurate.",
)
@click.option(
    "--golden/--no-golden", default=True, show_default=True, help="Store a few images in the files for selftest."
)
@click.option(
    "--web", type=PATH, metavar="DIR", help="Also write a page that runs the TFLite file in the browser: 'edgecls web'."
)
@limit_options
@click.option("--out", type=PATH, help="Folder for the files.  [default: RUN/export]")
@click.option("--data", type=PATH, help="Folder of the run's images, if they were moved.")
def export(run: Path, board: str | None, out: Path | None, data: Path | None, prepared: bool, **settings: Any) -> None:
    """Write RUN's model as TFLite and ONNX files, and measure each file's accuracy on held-out images.

    With --good-class, or if RUN was trained with it, missed defects and false alarms are measured too. A limit to one
    of them (--max-missed, --max-false-alarms) chooses each file's threshold on its own scores of the validation images
    and stores it in the file, for predict and edgecls.load. 'edgecls evaluate' tries other limits.

    Exits with 1 if a file lost more accuracy than --max-drop; that file is named NAME.rejected.SUFFIX.

    --prepared writes no int8 file but the float network that ours are made of, into RUN/prepared. Give it to the
    toolkit of a chip that edgecls does not run on.

    \b
    Examples:
      edgecls export run --int8
      edgecls export run --int8 --fp16 --fp32 --format tflite --out files
      edgecls export run --int8 --board coral-usb
      edgecls export run --int8 --good-class free --max-missed 0.01
      edgecls export run --int8 --heatmap
      edgecls export run --prepared --format onnx
      edgecls export run --int8 --input rgb
    """
    old_board = settings.pop("old_board")
    board = old_board if board is None else board
    if prepared:
        return export_prepared(run, out, data, settings | {"board": board})
    if only := set(settings["formats"]) & set(PREPARED_ONLY):
        raise click.UsageError(f"--format {', '.join(sorted(only))} needs --prepared")
    target = find_target(export_target(board))
    page = settings.pop("web")
    config = _make_config(target, board, **settings)
    litert_js = _find_litert_js(config) if page else {}
    load_tensorflow()
    from edgecls.export.artifact import export_run

    with LiveProgress() as bars:
        result = export_run(run, config, out=out, data=data, progress=bars)
    _print_all(result, run, target, board)
    _write_page(result, page, litert_js)


def _find_litert_js(config: ExportConfig) -> dict[str, bytes]:
    """Return the files of LiteRT.js, before an export that may take minutes."""
    from edgecls.serve.litert_js import find_litert_js

    if "tflite" not in config.formats:
        raise click.UsageError("--web runs a TFLite file; leave --format out, or add --format tflite")
    return find_litert_js(None, download=False)


def _write_page(result: ExportResult, page: Path | None, litert_js: dict[str, bytes]) -> None:
    if page:
        # The int8 file if there is one: it comes last.
        name = [file.path for file in result.files if file.format == "tflite"][-1]
        write_page(result.folder / name, page, litert_js)


def _print_all(result: ExportResult, run: Path, target: Target, board: str | None) -> None:
    """Print the result; raise Click's error, exit code 1, for a file that may not be shipped or does not run there."""
    print_export(result)
    if target.weight_bits < 8 and board is None and ("int8", "onnx") in {(f.precision, f.format) for f in result.files}:
        echo(SEVEN_BITS)
    if target.accelerator:
        echo(f"Accuracy was measured on this machine's CPU, not on {NPUS[target.accelerator]}.")
    if board and board not in TARGETS:
        check_board(result, board, run)
    check_gate(result)
    if result.files:
        print_next(result, run, target, board)


def _make_config(
    target: Target, board: str | None, *, formats: tuple[Any, ...], good_class: str | None, **settings: Any
) -> ExportConfig:
    precisions = tuple(name for name in PRECISIONS if settings.pop(name))
    return ExportConfig(
        precisions=precisions or ExportConfig.precisions,
        formats=formats or (target.formats if settings["input"] == "gray" else ("tflite",)),
        device=target.name if board else None,
        good_class=good_class or "",
        **settings,
    )


def print_next(result: ExportResult, run: Path, target: Target, board: str | None) -> None:
    """Print the commands that a user may run next, ready to be copied."""
    file = str(result.folder / find_usual(result, board).path)
    if target.accelerator:
        name = USUAL_BOARDS[target.accelerator] if board is None or board in TARGETS else board
        echo(f"Next: {shlex.join(['edgecls', 'check', file, '--board', name, '--compile'])}")
    else:
        echo(f"Next: {shlex.join(['edgecls', 'predict', file, str(result.image)])}")
        echo(f"      {shlex.join(['edgecls', 'choose', str(run), str(result.data)])}")


def find_usual(result: ExportResult, board: str | None) -> ExportedFile:
    """Return the file that the profile of the board, or of this machine, recommends; the first if it is not there."""
    from edgecls.boards.doctor import find_profile
    from edgecls.boards.machine import read_machine

    profile = load_profile(board) if board and board not in TARGETS else find_profile(read_machine())
    best = profile.recommended if profile else None
    found = (file for file in result.files if best and (file.precision, file.format) == (best.precision, best.format))
    return next(found, result.files[0])


def check_board(result: ExportResult, board: str, run: Path) -> None:
    """Raise Click's error, exit code 1, with the reason for every passed file that the board cannot run."""
    from edgecls.boards.compatibility import check_file
    from edgecls.boards.rule_result import is_yes

    profile, refused = load_profile(board), []
    for file in result.files:
        findings = check_file(result.folder / file.path, profile) if file.passed else ()
        if not is_yes(findings):
            reasons = "".join(f"\n  {finding.text}" for finding in findings if finding.level == "no")
            refused.append(f"{file.path} does not run on {board}:{reasons}")
    if refused:
        if npu := NPUS.get(TARGETS[profile.export_target].accelerator):
            command = shlex.join(["edgecls", "export", str(run), "--int8", "--board", board])
            refused.append(f"Not built for the {npu.removeprefix('an ')}. Run: {command}")
        raise click.ClickException("\n".join(refused))
    if passed := [file.path for file in result.files if file.passed]:
        command = shlex.join(["edgecls", "check", str(result.folder / passed[0]), "--board", board])
        echo(f"All files that passed run on {board}. To see how to install them there: {command}")


def print_export(result: ExportResult) -> None:
    """Print the table of files and the paths of their pictures and tables."""
    from edgecls.export.gate import format_change

    for note in result.notes:
        warn(note)
    echo(f"{'file':30} {'bytes':>10} {'accuracy':>9} {'change':>7} {'agreement':>10}")
    echo(f"{'(Keras, float)':30} {'':>10} {percent(result.float_accuracy, 2):>9}")
    for file in result.files:
        measured = file.comparison
        figures = f"{file.bytes:10,} {percent(measured.accuracy, 2):>9} {format_change(measured.drop):>7}"
        agreement = f"{percent(measured.agreement, 2):>10}"
        echo(f"{file.path:30} {figures} {agreement}  {measured.verdict}", fg=None if file.passed else "red")
    echo(f"{counted(result.images, 'held-out image')}; files in {result.folder}")
    for file in result.files:
        _print_findings(result.folder, file)


def _print_findings(folder: Path, file: ExportedFile) -> None:
    """Print what else was measured of a file, and the paths of its pictures and tables."""
    from edgecls.export.export_folder import layers_name

    if file.inspection:
        echo(f"{file.path}:")
        print_inspection(file.inspection)
        echo(f"  At all thresholds: {folder / file.inspection['picture']}")
    if file.in_mediapipe:
        _print_mediapipe(file.path, file.in_mediapipe)
    if file.comparison.accuracy < 1:
        echo(f"Images that {file.path} predicts incorrectly: {folder / file.mistakes}")
    if file.flips:
        echo(f"Images that {file.path} labels differently: {folder / file.flips}")
    if file.worst_layer:
        table = folder / layers_name(file.precision, file.format)
        echo(f"Layer of {file.path} that loses most of the signal: {file.worst_layer} (all layers: {table})")


def _print_mediapipe(name: str, found: dict[str, Any]) -> None:
    accuracy, agreement, resized = (percent(found[key], 2) for key in ("accuracy", "agreement", "accuracy_of_files"))
    echo(f"{name} in MediaPipe: accuracy {accuracy}; LiteRT gives {agreement} of the images the same label")
    if found["accuracy"] - found["accuracy_of_files"] > ExportConfig.max_drop:
        warn(f"MediaPipe's own resizing costs accuracy: {resized}. Resize images as in training, and give it those")


def check_gate(result: ExportResult) -> None:
    """Raise Click's error, exit code 1, with the verdict on every file that may not be shipped."""
    rejected = [file for file in result.files if not file.passed]
    if rejected:
        reasons = "; ".join(f"{file.path} {file.comparison.verdict}" for file in rejected)
        instead = "; --fp16 files lose almost nothing" if "int8" in {file.precision for file in rejected} else ""
        raise click.ClickException(f"{reasons}. Do not ship it (--max-drop sets the limit){instead}")
