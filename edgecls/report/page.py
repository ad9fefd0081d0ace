"""The report: one HTML page of a run, with its pictures, that needs no network, no JavaScript and no other file."""

from __future__ import annotations

import base64
import datetime
import shlex
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.config import TrainConfig
from edgecls.errors import ModelFileError
from edgecls.evaluate import ClassMetrics, Evaluation, wilson_interval
from edgecls.export.export_folder import read_entries
from edgecls.files import write_atomically
from edgecls.messages.lists import some
from edgecls.messages.numbers import percent
from edgecls.messages.templates import load_template
from edgecls.report import gallery, pictures
from edgecls.report.exports import describe, read_latencies
from edgecls.report.gallery import ScoredImage, Shown
from edgecls.report.heatmaps import Draw, find_heatmaps
from edgecls.report.page_plots import draw_plots
from edgecls.report.pictures import HeldOut
from edgecls.report.plots import DPI
from edgecls.report.settings import describe_changes, read_config, train_command
from edgecls.training.phase_names import phase_name
from edgecls.training.run.run_folder import read_whole_record, run_id

PAGE_FILE = "report.html"
TEMPLATE = "report.html.jinja"
# An inch in CSS.
CSS_DPI = 96
# CSS pixels. A wider picture is scrolled sideways, as its letters would be too small otherwise.
WIDEST = 900
MOST_PAIRS = 8
# Also as older versions named it.
NO_PROBLEMS = ("no-problems", "healthy")
# Characters; the table of classes has all names.
LONGEST_LIST = 300


def write_report(run: Path) -> Path:
    """Write RUN/report.html from the content of the run folder, and return its path.

    Raises:
        ModelFileError: `run` is not a run folder, or is damaged.
        MissingDependency: Jinja or Matplotlib is not installed.
    """
    template = load_template("edgecls.report", TEMPLATE, "the report")
    record = read_whole_record(run)
    missing = pictures.draw_final(run)
    page = template.render(_describe(run, record), missing=missing)
    write_atomically(run / PAGE_FILE, page.encode())
    return run / PAGE_FILE


def _describe(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of the template."""
    held_out, imported = pictures.read_held_out(run, record), record.get("imported")
    config = TrainConfig(bits=record["config"].get("bits")) if imported else read_config(record["config"])
    name, evaluation = run.resolve().name, held_out.evaluation
    split = "test" if held_out.split == "test" else "validation"
    diagnosis, warnings = record.get("diagnosis", []), record.get("warnings", [])
    files, export_notes = _describe_exports(run, run_id(record))
    good = config.good_class or next((file["inspection"]["good_class"] for file in files if file["inspection"]), "")
    return {
        "name": name,
        "date": datetime.date.today().isoformat(),
        "data": ", ".join(_folders(record)),
        "verdict": _judge(evaluation, split, diagnosis, warnings),
        "held_out": split,
        "evaluation": evaluation,
        "interval": _interval(evaluation.accuracy, evaluation.images),
        "summary": _summarize(record),
        "settings": _describe_import(imported) if imported else describe_changes(config),
        "diagnosis": diagnosis,
        "no_problems": NO_PROBLEMS,
        "warnings": warnings,
        "phases": [phase | {"name": phase_name(phase["name"])} for phase in record.get("phases", [])],
        "pairs": _find_confused(evaluation),
        "classes": _list_classes(evaluation),
        "missing_classes": some(evaluation.missing_classes),
        "wrong": evaluation.images - int(evaluation.confusion.trace()),
        **_show_mistakes(record, held_out, good, config.bits, find_heatmaps(run / "export", files)),
        "exports": files,
        "good_class": good,
        "export_notes": export_notes,
        "plots": draw_plots(run, record, held_out),
        "preview": _embed(pictures.picture_path(run, "preview")),
        "versions": record.get("versions", {}),
        "command": _import_command(imported, record, name)
        if imported
        else train_command(config, _folders(record), Path(name)),
    }


def _folders(record: dict[str, Any]) -> list[str]:
    return list(record.get("folders", [record["data"]]))


def _describe_exports(run: Path, identity: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the exported files with their pictures, and problems with others."""
    exports, latencies = read_entries(run / "export", identity), read_latencies(run)
    files = [describe(run, file, latencies) for file in exports.entries]
    for file in files:
        # By its file name alone: export.json must not bring files from other folders into the page.
        file["picture"] = _embed(run / "export" / Path(file["flips"]).name) if file["flips"] else None
    return files, exports.notes


def _list_classes(evaluation: Evaluation) -> list[tuple[object, ...]]:
    """Return each class, the number of its images, and recall, precision and F1 with their intervals."""
    return [
        (label, metrics.support, *(_with_interval(metrics, name) for name in ("recall", "precision", "f1")))
        for label, metrics in evaluation.per_class.items()
    ]


def _judge(evaluation: Evaluation, split: str, diagnosis: Sequence[dict[str, str]], warnings: Sequence[str]) -> str:
    """Return the result of the run in one sentence: how accurate it is, and the worst that was found."""
    accuracy = f"{percent(evaluation.accuracy)} accuracy on {evaluation.images:,} {split} images"
    found = [each["name"].replace("-", " ") for each in diagnosis if each["name"] not in NO_PROBLEMS and each["remedy"]]
    found += ["a warning about the images"] * bool(warnings)
    if not found:
        return f"{accuracy}; no problems found" if diagnosis else accuracy
    return f"{accuracy}; look at: {some(found)}"


def _find_missed(held_out: HeldOut, classes: Sequence[str], good: str) -> NDArray[np.int64]:
    """Return the positions of the defects that the network takes for good, the most confident first."""
    if not good:
        return np.zeros(0, np.int64)
    index = list(classes).index(good)
    missed = np.flatnonzero((held_out.scores.argmax(1) == index) & (held_out.labels != index))
    return missed[np.argsort(-held_out.scores[missed, index], kind="stable")][: pictures.MOST_MISTAKES]


def _show_mistakes(
    record: dict[str, Any], held_out: HeldOut, good: str, bits: int | None, heatmaps: tuple[Draw | None, str]
) -> dict[str, Any]:
    classes, scores = record["classes"], held_out.scores

    def show(chosen: NDArray[np.int64]) -> list[Shown]:
        best = [(i, scores[i].argmax(), float(scores[i].max())) for i in chosen.tolist()]
        predictions = [
            ScoredImage(held_out.paths[i], classes[held_out.labels[i]], classes[index], score)
            for i, index, score in best
        ]
        return list(gallery.show(Path(record["data"]), predictions, bits, heatmaps[0]))

    mistakes, missed = pictures.find_mistakes(held_out), _find_missed(held_out, classes, good)
    return {"mistakes": show(mistakes), "missed": show(missed), "heatmaps": heatmaps[1]}


def _with_interval(metrics: ClassMetrics, name: str) -> str:
    """Return recall, precision or F1 of a class with its 95 % interval; "" if it cannot be measured."""
    value, interval = getattr(metrics, name), getattr(metrics, f"{name}_interval")
    if value is None or interval is None:
        return ""
    return f"{percent(value)} ({interval[0] * 100:.1f} to {percent(interval[1])})"


def _describe_import(imported: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the import of a Keras model found: a name and a text each."""
    tried = ", ".join(f"{name} {percent(accuracy)}" for name, accuracy in imported["scalings"].items())
    resizing = ", ".join(f"{name} {percent(way['accuracy'])}" for name, way in imported["resizing"].items())
    return [
        ("scaling of a pixel", f"{imported['scaling']['name']} (training images: {tried})"),
        ("class order", imported["classes"]),
        ("resizing", f"edgecls {percent(imported['accuracy'])}; without antialiasing, as Keras: {resizing}"),
        *([("refit", imported["refit"]["text"])] if "refit" in imported else []),
    ]


def _import_command(imported: dict[str, Any], record: dict[str, Any], name: str) -> str:
    return shlex.join(["edgecls", "import", imported["file"], record["data"], "--out", name, *imported["options"]])


def _interval(fraction: float, images: int) -> str:
    """Return the 95 % interval of a fraction of images as text; "" without images."""
    if not images:
        return ""
    low, high = wilson_interval(round(fraction * images), images)
    return f"{percent(low)} to {percent(high)}"


def _summarize(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return facts about the images, the network and the run: a name and a text each."""
    config, weights = record["config"], record["weights"]
    counts = [f"{sum(map(len, by_class.values())):,} {part}" for part, by_class in record["split"].items()]
    facts = {
        "Classes": names if len(names := ", ".join(record["classes"])) < LONGEST_LIST else "",
        "Images": f"{', '.join(counts)}, from {', '.join(_folders(record))}",
        "Network": f"{record['arch']}, {config['image_size']} x {config['image_size']} pixels",
        "Weights": weights["source"] + (f" (sha256 {weights['sha256'][:12]})" if weights["sha256"] else ""),
        "Time": f"{record['seconds']:,.0f} s" if "seconds" in record else "",
        "Left out": record.get("left_out", ""),
    }
    return [(name, text) for name, text in facts.items() if text]


def _find_confused(evaluation: Evaluation) -> list[tuple[str, str, int, int]]:
    """Return (true class, predicted class, images, images of the true class), the most frequent mistakes first."""
    labels, wrong = list(evaluation.per_class), evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    cells = [divmod(int(position), len(labels)) for position in order]
    return [
        (labels[row], labels[column], int(wrong[row, column]), evaluation.per_class[labels[row]].support)
        for row, column in cells
        if wrong[row, column]
    ]


def _embed(path: Path) -> dict[str, Any] | None:
    """Return the picture for a page, with its width in CSS pixels and the smallest width it may be shrunk to."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as picture:
            # A contact sheet has no resolution: it is shown pixel for pixel.
            scale = CSS_DPI / DPI if "dpi" in picture.info else 1.0
            width, height = (round(side * scale) for side in picture.size)
            picture.verify()
    # Pillow raises these on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); delete it and repeat edgecls report") from error
    least = width * 3 // 4 if width > WIDEST else width // 2
    return {
        "data": base64.b64encode(path.read_bytes()).decode("ascii"),
        "width": width,
        "height": height,
        "least": least,
    }
