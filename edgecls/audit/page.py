"""The page of an audit: what was found, with the images. It needs no network and no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from edgecls.audit.audit import Audit, list_counts
from edgecls.audit.summary import describe_accuracy, list_notes, list_rows
from edgecls.files import write_atomically
from edgecls.messages.templates import load_template

TEMPLATE = "audit.html.jinja"
MOST_SHOWN = 48
THUMBNAIL = 96


def write_page(found: Audit, path: Path) -> None:
    """Write the page.

    Raises:
        MissingDependency: Jinja is not installed.
    """
    template = load_template("edgecls.audit", TEMPLATE, "the page of an audit")
    write_atomically(path, template.render(_describe(found)).encode("utf-8", "backslashreplace"))


def _describe(found: Audit) -> dict[str, Any]:
    def show(index: int, text: str = "") -> dict[str, str]:
        return {
            "data": _thumbnail(found, index),
            "path": found.material.paths[index],
            "place": f"{found.part(index)} / {found.label(index)}",
            "text": text,
        }

    def show_pairs(pairs: list[tuple[int, int, float]]) -> list[list[dict[str, str]]]:
        # The least certain ones are worth a look as well as the most certain ones.
        ranked = sorted(pairs, key=lambda pair: -pair[2])
        shown = ranked if len(ranked) <= MOST_SHOWN else ranked[: MOST_SHOWN // 2] + ranked[-MOST_SHOWN // 2 :]
        return [[show(one, f"correlation {value:.3f}"), show(other)] for one, other, value in shown]

    classes = found.material.dataset.classes
    wrong = [[show(i, f"likely {classes[likely]} ({margin:.2f})")] for i, likely, margin in found.wrong[:MOST_SHOWN]]
    within = [pair for pair in found.pairs if pair not in set(found.across())]
    sections = [
        ("Near duplicates across splits", len(found.across()), show_pairs(found.across())),
        ("Contradictory labels", len(found.contradictory()), show_pairs(found.contradictory())),
        ("Likely wrong labels, the most likely first", len(found.wrong), wrong),
        (
            "Faults of single images",
            len(found.faults),
            [[show(fault.index, f"{fault.kind}: {fault.text}")] for fault in found.faults[:MOST_SHOWN]],
        ),
        ("Near duplicates within a split", len(within), show_pairs(within)),
    ]
    return {
        "name": found.material.dataset.root.name,
        "accuracies": found.accuracies,
        "accuracy": describe_accuracy(found),
        "rows": list_rows(found),
        "notes": list_notes(found),
        "counts": list_counts(found),
        "unreadable": found.material.dataset.bad,
        "sections": [(title, count, shown) for title, count, shown in sections if count],
    }


def _thumbnail(found: Audit, index: int) -> str:
    picture = Image.fromarray(found.material.pixels(index)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
