"""The table of images that an audit would leave out, for a person to review and `train --exclude` to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from edgecls.audit.audit import Audit
from edgecls.audit.material import TRAIN
from edgecls.files import write_rendered
from edgecls.messages.names import as_cell, as_cell_path

COLUMNS = ("image", "action", "class", "split", "reason")
# A picture with these faults shows nothing.
EMPTY = ("black", "flat", "saturated")


def list_moves(found: Audit) -> list[tuple[int, str]]:
    """Return the images to leave out, each once with the first reason that applies."""
    reasons: dict[int, str] = {}
    for index, reason in _find_reasons(found):
        reasons.setdefault(index, reason)
    return sorted(reasons.items())


def _find_reasons(found: Audit) -> Iterator[tuple[int, str]]:
    material = found.material
    for one, other, _ in found.contradictory():
        for index, twin in ((one, other), (other, one)):
            yield index, f"the same picture as {material.paths[twin]}, which is labeled {found.label(twin)}"
    for fault in found.faults:
        if fault.kind in EMPTY:
            yield fault.index, f"{fault.kind}: {fault.text}"
    for index, likely, margin in found.wrong:
        yield index, f"the label is likely {material.dataset.classes[likely]} (margin {margin:.2f})"
    for one, other, _ in found.across():
        # Test images stay what they are: of two others, the later split keeps its copy.
        leaves, stays = sorted((one, other), key=lambda index: int(material.parts[index]) != TRAIN)
        yield leaves, f"the same picture as {material.paths[stays]} in {found.part(stays)}"


def write_moves(found: Audit, path: Path) -> int:
    """Write the table, and return the number of its rows."""
    rows = list_moves(found)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for index, reason in rows:
        image, label = as_cell_path(found.material.paths[index]), as_cell(found.label(index))
        writer.writerow((image, "exclude", label, found.part(index), reason))
    write_rendered(path, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))
    return len(rows)
