"""Exported files that differ from others in one thing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec


def with_labels(file: Path, to: Path, labels: tuple[str, ...]) -> Path:
    """The same network under other labels."""
    model = read_model_file(file)
    to.write_bytes(attach_spec(model.graph, replace(model.spec, labels=labels), model.format))
    return to
