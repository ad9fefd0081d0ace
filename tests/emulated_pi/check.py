"""Hold a board's answers against this machine's, and write them down as a record of correctness."""

from __future__ import annotations

import datetime
import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulated_pi.kits import KITS, Kit, install
from emulated_pi.machine import HOST, Machine, find_tool, prepare_root, run

SCORE = Path(__file__).with_name("score.py")
COMMANDS = ("info", "selftest", "predict")
# Of kits that are not exact, as a share of the images.
MOST_OTHER_LABELS = 0.05


@dataclass(frozen=True, eq=False)
class Answers:
    """What a machine made of the images.

    Attributes:
        about: versions of everything involved.
        pixels: uint8 (N, H, W, 1).
        scores: float32 (N, C).
    """

    about: dict[str, str]
    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """How far a board is from x86.

    Attributes:
        images: how many were compared.
        pixels_differ: images whose pixels are not the same bytes.
        max_pixel_difference: of 255.
        max_score_difference: of 1.
        median_score_difference: of the images' largest ones.
        labels_differ: images whose best label is another one.
        tolerance: of the kit.
        exact: of the kit.
        passed: whether all pixels are identical, and scores and labels as the kit demands.
    """

    images: int
    pixels_differ: int
    max_pixel_difference: int
    max_score_difference: float
    median_score_difference: float
    labels_differ: int
    tolerance: float
    exact: bool
    passed: bool


def compare(board: Answers, reference: Answers, kit: Kit) -> Comparison:
    """Return how far the board's answers are from the reference's."""
    count = len(board.pixels)
    pixels = np.abs(board.pixels.astype(int) - reference.pixels).reshape(count, -1).max(axis=1)
    scores = np.abs(board.scores - reference.scores).max(axis=1)
    largest, median = float(scores.max()), float(np.median(scores))
    differ = int((pixels > 0).sum())
    labels = int((board.scores.argmax(axis=1) != reference.scores.argmax(axis=1)).sum())
    # Not the other way round: NaN scores, too, are outside.
    within = (largest if kit.exact else median) <= kit.tolerance and np.isfinite(largest)
    passed = bool(differ == 0 and within and labels <= (0 if kit.exact else MOST_OTHER_LABELS * count))
    largest_pixel = int(pixels.max())
    return Comparison(count, differ, largest_pixel, largest, median, labels, kit.tolerance, kit.exact, passed)


def check_board(
    board: Machine, kit: str, export: Path, images: list[Path], wheel: Path, folder: Path
) -> dict[str, Any]:
    """Return the record of one kit on one board.

    Args:
        board: in `machine.BOARDS`.
        kit: in `kits.KITS`.
        export: folder of exported files.
        images: what is scored.
        wheel: of edgecls.
        folder: for files in between.
    """
    prepare_root(board)
    file = export / KITS[kit].file
    reference = score(HOST, kit, file, images, install(HOST, kit, wheel), folder)
    modules = install(board, kit, wheel)
    answers = score(board, kit, file, images, modules, folder)
    compared = compare(answers, reference, KITS[kit])
    commands = {name: run_command(board, name, file, images[0], modules) for name in COMMANDS}
    label = json.loads(commands["predict"])[0]["index"]
    passed = compared.passed and label == int(answers.scores[0].argmax())
    where = {"board": board.name, "title": board.title, "cpu": board.cpu, "kit": kit, "file": file.name}
    about = {"emulated": answers.about, "x86": reference.about}
    return where | about | asdict(compared) | {"commands": sorted(commands), "passed": passed}


def score(machine: Machine, kit: str, file: Path, images: list[Path], modules: list[Path], folder: Path) -> Answers:
    """Return the machine's answers; those of the host, which every board is held against, are kept in `folder`."""
    stem = f"{machine.name}-{kit}"
    names, out, reported = (folder / f"{stem}.{suffix}" for suffix in ("txt", "npz", "json"))
    if not (machine is HOST and out.is_file()):
        names.write_text("\n".join(str(image.resolve()) for image in images), encoding="utf-8")
        reported.write_text(_run_or_exit(machine, [SCORE, file, names, out], modules), encoding="utf-8")
    with np.load(out) as arrays:
        return Answers(json.loads(reported.read_text(encoding="utf-8")), arrays["pixels"], arrays["scores"])


def run_command(machine: Machine, name: str, file: Path, image: Path, modules: list[Path]) -> str:
    """Return what an edgecls command prints on the machine."""
    arguments = [image, "--json"] if name == "predict" else []
    return _run_or_exit(machine, ["-m", "edgecls", name, file, *arguments], modules)


def _run_or_exit(machine: Machine, arguments: list[object], modules: list[Path]) -> str:
    done = run(machine, arguments, modules)
    if done.returncode:
        command = " ".join(str(argument) for argument in arguments)
        raise SystemExit(f"on {machine.title}, {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def write_record(path: Path, rows: list[dict[str, Any]], images: str) -> None:
    """Write the rows as benchmarks/results/emulated-pi.json has them."""
    qemu = subprocess.run([find_tool("qemu-aarch64-static"), "--version"], capture_output=True, text=True, check=True)
    record = {
        "schema": 1,
        "kind": "correctness: run under emulation, so that no times are taken",
        "date": datetime.date.today().isoformat(),
        "emulator": qemu.stdout.splitlines()[0],
        "images": images,
        "results": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
