"""Exported files that differ from others in one thing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec


def with_labels(file: Path, to: Path, labels: tuple[str, ...]) -> Path:
    """The same network under other labels."""
    return with_metadata(file, to, labels=labels)


def with_metadata(file: Path, to: Path, **changes: Any) -> Path:
    """The same network with other metadata."""
    model = read_model_file(file)
    to.write_bytes(attach_spec(model.graph, replace(model.spec, **changes), model.format))
    return to
