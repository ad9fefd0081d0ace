"""The options and the lines of a classifier of which one class is good and every other one a defect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from edgecls.cli.terminal import echo, warn

PARTS = {
    "test": "the test images",
    "val": "the validation images, on which the threshold was chosen",
    "": "these images",
}


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with --good-class, --max-missed and --max-false-alarms."""
    fraction = click.FloatRange(0, 1, max_open=True)
    for flag, kind, text in (
        (
            "--max-false-alarms",
            fraction,
            "Choose a threshold: at most this fraction of the good images is called a defect.",
        ),
        (
            "--max-missed",
            fraction,
            "Choose a threshold: at most this fraction of the defects is missed; 0.01 is 1 %.",
        ),
        ("--good-class", str, "The class that is no defect; all others are.  [default: the one of the training]"),
    ):
        command = click.option(flag, type=kind, help=text)(command)
    return command


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print missed defects and false alarms: `inspection` of export.json or of `evaluate --json`."""
    from edgecls.inspection import Rates

    def show(name: str) -> str:
        counts = found[name]
        return str(Rates(*(counts[each] for each in ("defects", "missed", "good", "false_alarms"))))

    good, threshold, part = found["good_class"], found["threshold"], PARTS[found.get("split", "")]
    if threshold is None:
        echo(f"  A defect is every image whose highest score is not {good}. On {part}:")
        echo(f"  {show('held_out')}")
        return
    echo(f"  A defect is every image with a score of {good} below {threshold:.4f}. On {part}:")
    echo(f"  {show('held_out')}")
    echo(f"  With the highest score instead: {show('highest_score')}")
    if found.get("doubt"):
        warn(found["doubt"])
