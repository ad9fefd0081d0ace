"""edgecls info."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecls.cli.terminal import PATH, echo, one_line, print_json

# A longer list, such as what a file knows of its training images, is hundreds of lines in a terminal.
MOST_VALUES = 16


@click.command()
@click.argument("file", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def info(file: Path, as_json: bool) -> None:
    """Show the metadata in an exported FILE, after verifying its checksum.

    \b
    Example:
      edgecls info run/export/model-int8.tflite
    """
    from edgecls.model_file.read import read_spec

    spec = asdict(read_spec(file))
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size} | spec)
        return
    spec["labels"] = ", ".join(spec["labels"])
    spec["golden"] = ", ".join(one_line(str(sample.get("name"))) for sample in spec["golden"]) or None
    for name, value in ({"file": file, "bytes": f"{file.stat().st_size:,}"} | spec).items():
        text = json.dumps(_shorten(value)) if isinstance(value, dict) else value
        echo(f"{name:20} {text}")


def _shorten(value: Any) -> Any:
    """Return a value of the metadata with the number of values in place of each long list."""
    if isinstance(value, dict):
        return {name: _shorten(each) for name, each in value.items()}
    is_long = isinstance(value, (list, tuple)) and len(value) > MOST_VALUES
    return f"{len(value)} values, see --json" if is_long else value
