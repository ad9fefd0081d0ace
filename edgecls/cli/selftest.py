"""edgecls selftest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecls.cli.terminal import PATH, device_option, echo, host_options, one_line, untrusted_option

if TYPE_CHECKING:
    from edgecls.remote.host import Host


@click.command()
@click.argument("file", type=PATH)
@device_option
@untrusted_option
@host_options
def selftest(file: Path, device: str, host: Host | None, untrusted: bool) -> None:
    """Check that FILE gives the same predictions on this machine, or on a host, as where it was exported.

    The file carries a few real images. Each stage (decode, resize, engine) must give the same results for them.
    Exits with 1 and names the first stage that differs.

    \b
    Examples:
      edgecls selftest model-int8.tflite
      edgecls selftest model-fp32.onnx --device cuda
      edgecls selftest model-int8.tflite --host pi@raspberrypi.local --python env/bin/python
    """
    from edgecls.model_file.selftest import run_selftest
    from edgecls.runtime.classifier import load

    if host is not None:
        return _selftest_on_host(file, device, host, untrusted)
    classifier = load(file, device=device, untrusted=untrusted)
    result = run_selftest(classifier)
    engine = f"{classifier.engine.name} {classifier.engine.version}"
    if result.stage:
        unit = "of a score" if result.stage == "engine" else "gray values"
        raise click.ClickException(
            f"{result.stage} differs on {one_line(result.sample)} by up to {result.difference:.4g} {unit} ({engine}); "
            "predictions on this machine are not those that the file was tested with"
        )
    echo(f"ok: decode, resize and {engine} agree on {result.samples} golden images")


def _selftest_on_host(file: Path, device: str, host: Host, untrusted: bool) -> None:
    from edgecls.cli.remote import pack_file, run_on_host
    from edgecls.remote.bundle import FileBundle

    bundle = FileBundle()
    arguments = ["selftest", pack_file(bundle, file), "--device", device, *(["--untrusted"] if untrusted else [])]
    raise click.exceptions.Exit(run_on_host(host, arguments, bundle, lambda line: echo(bundle.restore(line))))
