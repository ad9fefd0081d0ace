"""An audit in sentences and a table, for the terminal and the page."""

from __future__ import annotations

import shlex
from collections import Counter

from edgecls.audit.audit import Audit
from edgecls.audit.shapes import describe_shapes
from edgecls.evaluate import wilson_interval
from edgecls.messages.lists import counted
from edgecls.messages.numbers import percent

# A class with fewer training images than this is hard to learn; as in the diagnosis of a run.
FEW_IMAGES = 20


def list_rows(found: Audit) -> list[tuple[str, int, str]]:
    """Return the kinds of findings: name, number, and what that means."""
    across, pairs, kinds = found.across(), found.pairs, Counter(fault.kind for fault in found.faults)
    labels = found.contradictory()
    touched = len({index for pair in across for index in pair[:2]})
    rows = [
        ("unreadable", len(found.material.dataset.bad), "files that cannot be decoded"),
        (
            "duplicates across splits",
            len(across),
            f"pairs of one picture or object, {counted(touched, 'image')}; accuracy is overstated",
        ),
        ("duplicates within a split", len(pairs) - len(across), "pairs of one picture or object"),
        ("contradictory labels", len(labels), "pairs of one picture or object with two labels"),
        ("likely wrong labels", len(found.wrong), "the classifier is sure of another class"),
        *((kind, count, _MEANING[kind]) for kind, count in kinds.items()),
        (
            "groups in several splits",
            len(found.torn),
            f"of the pattern {found.group}" if found.group else "of the table",
        ),
    ]
    return [row for row in rows if row[1]]


_MEANING = {
    "black": "black images",
    "flat": "images of a single gray value",
    "saturated": "images that are mostly white",
    "blurred": "images with far less fine structure than the others",
    "size": "images of another size than nearly all others",
    "kind": "images of another color mode or depth than nearly all others",
    "unlike": "images that resemble no other image",
}


def describe_accuracy(found: Audit) -> str:
    """Return the accuracy with and without the leak, in a few sentences."""
    leak, part = found.accuracies, found.accuracies.part
    low, high = wilson_interval(round(leak.with_leak * leak.images), leak.images)
    text = (
        f"A linear classifier reaches {percent(leak.with_leak)} on {counted(leak.images, f'{part} image')} "
        f"(95 % interval {percent(low)} to {percent(high)})."
    )
    if not leak.near_duplicates:
        return f"{text} No training image is a near duplicate of a {part} image."
    for accuracy, count, what in (
        (leak.without_copies, leak.copies, f"a copy of a {part} image, the accuracy without the leak is"),
        (leak.without_near_duplicates, leak.near_duplicates, "a near duplicate, such as another shot, it is"),
    ):
        reached = percent(accuracy) if accuracy is not None else "unknown, as nothing is left to learn from"
        text += f" Without {counted(count, 'training image')}, each {what} {reached}." if count else ""
    if leak.near_duplicates == leak.copies:
        return text
    return f"{text} The last figure is what to expect of objects that no training image shows."


def list_notes(found: Audit) -> list[str]:
    """Return what else is to be known, a sentence or two each."""
    dataset, notes = found.material.dataset, []
    counts = Counter(found.material.labels[found.material.parts == 0].tolist())
    sizes = {name: counts[index] for index, name in enumerate(dataset.classes)}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    span = f"from {sizes[least]:,} ({least}) to {sizes[most]:,} ({most})"
    span = f"each with {sizes[most]:,}" if sizes[least] == sizes[most] else span
    notes.append(f"Classes: {len(sizes)}, {span} training images.")
    if few := [name for name, size in sizes.items() if size < FEW_IMAGES]:
        notes.append(f"{', '.join(few)}: fewer than {FEW_IMAGES} training images; take more pictures.")
    if found.group_accuracy is not None and found.random_accuracy is not None:
        origin = "" if found.material.group_of else "Near duplicates follow the file names. "
        split = f"Split so with --group {shlex.quote(found.group)}" if found.group else "train splits so, by the table"
        notes.append(
            f"{origin}With folds chosen at random, a linear classifier reaches {percent(found.random_accuracy)}; with "
            f"folds by group, {percent(found.group_accuracy)}. {split}"
        )
    if found.shapes:
        notes.append(describe_shapes(found.shapes))
    return [*dataset.notes, *dataset.doubts, *filter(None, [dataset.left_out]), *notes]
