"""Record the output of the commands that the README shows, so that the README shows real output.

    python benchmarks/readme_output.py                       # the demo, and its picture for docs/
    python benchmarks/readme_output.py --tests               # make test
    python benchmarks/readme_output.py DATA --name NAME      # train, export, predict, evaluate, selftest

The commands run in a new folder with an empty cache; `make test` runs in this repository. DATA needs a folder test/,
and is called `photos` in the output. `python benchmarks/tables.py` then writes the output into the documents.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from record import Watch, write_record

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "contact-sheet.png"


class Shown(NamedTuple):
    """A command of the README.

    Attributes:
        command: as a shell runs it.
        first: how many of its first lines the README shows; None for all.
        prompt: whether the README shows the command itself.
        last: how many of its last lines the README shows; None for all.
    """

    command: str
    first: int | None = None
    prompt: bool = True
    last: int | None = None


DEMO = (Shown("edgecls demo --out demo-run", prompt=False, last=5),)
TESTS = (Shown("make test", last=1, prompt=False),)
TOUR = (
    Shown("edgecls train photos --out run"),
    Shown("edgecls export run --int8"),
    Shown("edgecls predict run/export/model-int8.tflite photos/test/{first}/*", 3),
    Shown("edgecls evaluate run/export/model-int8.tflite photos"),
    Shown("edgecls selftest run/export/model-int8.onnx"),
)


def record(commands: tuple[Shown, ...], folder: Path, data: Path | None = None) -> list[dict[str, Any]]:
    """Return each command with its output on stdout.

    Args:
        commands: to run.
        folder: where they run.
        data: images that the commands find as `photos` in `folder`.
    """
    first = ""
    if data is not None:
        (folder / "photos").symlink_to(data.resolve())
        names = sorted(path.name for path in (data / "test").iterdir() if path.is_dir())
        # tests/test_docs.py runs what the README shows, on images of this class.
        first = "crack" if "crack" in names else names[0]
    return [_run(shown, shown.command.format(first=first), folder) for shown in commands]


def _run(shown: Shown, command: str, folder: Path) -> dict[str, Any]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PATH": paths, "XDG_CACHE_HOME": cache}
        done = subprocess.run(
            ["sh", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}")
    # A run knows its images by their real path, which is nobody else's.
    lines = done.stdout.replace(str((folder / "photos").resolve()), "photos").rstrip().splitlines()
    shown_lines = lines[: shown.first] if shown.last is None else lines[-shown.last :]
    more = ["..."] if shown.first is not None and len(lines) > shown.first else []
    return {"command": command, "prompt": shown.prompt, "lines": shown_lines + more}


def text(record: dict[str, Any]) -> str:
    """Return the commands and their output as one block of Markdown."""
    blocks = [
        "\n".join([*([f"$ {row['command']}"] if row["prompt"] else []), *row["lines"]]) for row in record["commands"]
    ]
    return "```\n" + "\n\n".join(blocks) + "\n```"


def save_picture(sheet: Path, picture: Path) -> None:
    """Write the demo's contact sheet with 256 colors, which makes the file small."""
    with Image.open(sheet) as image:
        # The default method would lose the red of the few incorrect labels among all the grays.
        colors = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colors.save(picture, optimize=True)


def main() -> None:
    """Run the commands and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--name", default="demo", help="of the images, for the name of the result")
    parser.add_argument("--tests", action="store_true", help="record the last line of make test")
    arguments = parser.parse_args()
    watch = Watch()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.tests:
            name, commands = "test", record(TESTS, ROOT)
        else:
            name, commands = arguments.name, record(TOUR if arguments.data else DEMO, folder, arguments.data)
        if not (arguments.tests or arguments.data):
            save_picture(folder / "demo-run" / "contact-sheet.png", PICTURE)
    print(write_record(f"readme-output-{name}", {"commands": commands}, watch.verdict()))


if __name__ == "__main__":
    main()
