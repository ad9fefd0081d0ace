"""How `edgecls predict` prints predictions: as text, JSON, JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from edgecls.cli.terminal import echo, echo_csv, one_line, print_json
from edgecls.messages.names import as_cell, as_cell_path

# The name of an image that is read from stdin.
STDIN = "-"


class Output:
    """Writes each prediction to stdout at once or, as "json", all in one document at the end."""

    def __init__(self, form: str, top_k: int) -> None:
        self._form, self._top_k = form, top_k
        self._begun, self._more = False, ()  # type: tuple[bool, Sequence[str]]
        self._entries: list[dict[str, Any]] = []

    def begin(self, labels: Iterable[str], more: Sequence[str] = ()) -> None:
        """Write the header, once; `more` are further keys of the entries."""
        if not self._begun and self._form == "csv":
            echo_csv("image", "label", "index", "score", *(f"scores.{label}" for label in labels), *more)
        self._begun, self._more = True, more

    def write(self, entry: dict[str, Any]) -> None:
        """Write one prediction: an entry of `predict --json`."""
        if self._form == "json":
            self._entries.append(entry)
        elif self._form == "jsonl":
            # ASCII only, as in `print_json`.
            echo(json.dumps(entry))
        elif self._form == "csv":
            scores = [f"{value:.6f}" for value in (entry["score"], *entry["scores"].values())]
            more = (_cell(entry[name]) for name in self._more)
            image = entry["image"] if entry["image"] == STDIN else as_cell_path(entry["image"])
            echo_csv(image, _cell(entry["label"]), entry["index"], *scores, *more)
        else:
            echo(_text(entry, self._top_k))

    def end(self) -> None:
        """Write the JSON document, if there was a prediction."""
        if self._begun and self._form == "json":
            print_json(self._entries)


def _cell(value: str | bool | None) -> str:
    return as_cell(value) if isinstance(value, str) else {True: "true", False: "false", None: ""}[value]


def _text(entry: dict[str, Any], top_k: int) -> str:
    # The label comes first, also where another score is as high, or the good class's is higher but below its threshold.
    best = sorted(enumerate(entry["scores"].items()), key=lambda one: (one[0] != entry["index"], -one[1][1], one[0]))
    ranked = ", ".join(f"{label} {score:.4f}" for _, (label, score) in best[:top_k])
    marks = [" (rejected)"] if entry["label"] is None else [" (defect)"] if entry.get("defect") else []
    marks += [f", smoothed {entry['smoothed'] or 'none'}"] if "smoothed" in entry else []
    return f"{one_line(entry['image'])}: {ranked}{''.join(marks)}"
