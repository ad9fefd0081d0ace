"""edgecls web."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgecls.cli.terminal import PATH, echo


@click.command()
@click.argument("file", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for the page: new, empty, or written by this command.")
@click.option("--download", is_flag=True, help="Download LiteRT.js from npm's registry if it is not in the cache.")
@click.option("--litert-js", type=PATH, metavar="DIR", help="The node_modules that npm installed LiteRT.js into.")
def web(file: Path, out: Path, download: bool, litert_js: Path | None) -> None:
    """Write a page that classifies with FILE in the browser: no Python and no server of ours.

    FILE is a TFLite file of 'edgecls export'. Put the folder on any web server. Images stay on the device that opens
    the page. It can be installed and works offline, if its address begins with https or is this machine's own.

    The page needs LiteRT.js. --download gets it once; only files with known checksums are used. The registry is npm's,
    or that of npm_config_registry or .npmrc.

    \b
    Examples:
      edgecls web run/export/model-int8.tflite --out page --download
      python -m http.server --directory page
    """
    from edgecls.serve.litert_js import find_litert_js

    if download and litert_js is not None:
        raise click.UsageError("--download excludes --litert-js: the files come from one of them")
    write_page(file, out, find_litert_js(litert_js, download=download))


def write_page(file: Path, out: Path, litert_js: dict[str, bytes]) -> None:
    """Write a page into the folder `out` and print what it holds and how to open it."""
    from edgecls.serve.litert_js import VERSION
    from edgecls.serve.web import write_web

    folder = write_web(file, out, litert_js)
    sizes = [f"{size / 1e6:.1f} MB" for size in (folder.size_bytes, folder.first_visit_bytes)]
    echo(f"{folder.files} files in {out}, {sizes[0]}, with LiteRT.js {VERSION}; a browser loads {sizes[1]} once")
    echo(f"Next: {shlex.join(['python', '-m', 'http.server', '--directory', str(out)])}")
    echo("      then open http://localhost:8000")
