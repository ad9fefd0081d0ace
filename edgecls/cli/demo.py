"""edgecls demo."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgecls.cli.export import check_gate, print_export
from edgecls.cli.progress import LiveProgress
from edgecls.cli.terminal import PATH, echo, load_tensorflow, print_findings, warn


@click.command()
@click.option("--out", type=PATH, default=Path("edgecls-demo"), show_default=True, help="Output folder.")
def demo(out: Path) -> None:
    """Train, export and evaluate a classifier on images of clothing that come with edgecls.

    \b
    Example:
      edgecls demo --out demo
    """
    load_tensorflow()
    from edgecls.demo import run_demo

    with LiveProgress() as bars:
        result = run_demo(out, bars)
    for warning in result.warnings:
        warn(warning)
    print_export(result.export)
    print_findings(result.findings)
    echo(f"\n{result.correct} of the {result.shown} test images in {result.sheet} are labeled correctly.")
    echo(f"Open it, and the report of the run: {result.page}")
    check_gate(result.export)
    echo(f"Next: {shlex.join(['edgecls', 'predict', str(result.file), str(result.image)])}")
