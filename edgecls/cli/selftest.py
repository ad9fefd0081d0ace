"""edgecls selftest."""

from __future__ import annotations

from pathlib import Path

import click

from edgecls.cli.terminal import PATH


@click.command()
@click.argument("file", type=PATH)
def selftest(file: Path) -> None:
    """Check on this machine that FILE gives the answers it gave where it was made.

    The file carries a few real images. Each stage must make the same of them here: decode, resize, engine. Exits
    with 1 and names the first stage that differs.

    \b
    Example:
      edgecls selftest model-int8.tflite
    """
    from edgecls.runtime.classifier import load
    from edgecls.selftest import run_selftest

    classifier = load(file)
    result = run_selftest(classifier)
    engine = f"{classifier.engine.name} {classifier.engine.version}"
    if result.stage:
        unit = "of a score" if result.stage == "engine" else "gray values"
        raise click.ClickException(
            f"{result.stage} differs on {result.sample} by up to {result.difference:.4g} {unit} ({engine}); "
            "this machine does not give the answers the file was tested with"
        )
    click.echo(f"ok: decode, resize and {engine} agree on {result.samples} golden images")
