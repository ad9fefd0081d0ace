"""Record what the commands that the README shows print, so that the README says what they say.

    python benchmarks/readme_output.py                       # the demo
    python benchmarks/readme_output.py DATA --name NAME      # the tour: train, export, predict, evaluate, selftest

The commands run in a new folder, with an empty cache; DATA, which needs a folder test/, is `photos` there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from record import Watch, write_record


class Shown(NamedTuple):
    """A command, how many of its lines the README shows (None: all), and whether it shows the command itself."""

    command: str
    lines: int | None = None
    prompt: bool = True


DEMO = (Shown("edgecls demo --out demo-run", prompt=False),)
TOUR = (
    Shown("edgecls train photos --out run"),
    Shown("edgecls export run --int8"),
    Shown("edgecls predict run/export/model-int8.tflite photos/test/{first}/*", 3),
    Shown("edgecls evaluate run/export/model-int8.tflite photos"),
    Shown("edgecls selftest run/export/model-int8.onnx"),
)


def record(commands: tuple[Shown, ...], data: Path | None) -> list[dict[str, Any]]:
    """Return each command with what it printed on stdout."""
    with tempfile.TemporaryDirectory() as folder:
        first = ""
        if data is not None:
            Path(folder, "photos").symlink_to(data.resolve())
            names = sorted(path.name for path in (data / "test").iterdir() if path.is_dir())
            # The images of tests/test_docs.py, which runs what the README shows, have this class.
            first = "crack" if "crack" in names else names[0]
        paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": paths, "XDG_CACHE_HOME": f"{folder}/cache"}
        found = []
        for shown in commands:
            command = shown.command.format(first=first)
            done = subprocess.run(
                ["sh", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}")
            lines = done.stdout.rstrip().splitlines()
            more = ["..."] if shown.lines is not None and len(lines) > shown.lines else []
            found.append({"command": command, "prompt": shown.prompt, "lines": lines[: shown.lines] + more})
    return found


def text(record: dict[str, Any]) -> str:
    """Return the commands and what they printed as one block of Markdown."""
    blocks = [
        "\n".join([*([f"$ {row['command']}"] if row["prompt"] else []), *row["lines"]]) for row in record["commands"]
    ]
    return "```\n" + "\n\n".join(blocks) + "\n```"


def main() -> None:
    """Run the commands and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--name", default="demo", help="of the images, for the name of the result")
    arguments = parser.parse_args()
    watch = Watch()
    commands = record(TOUR if arguments.data else DEMO, arguments.data)
    print(write_record(f"readme-output-{arguments.name}", {"commands": commands}, watch.verdict()))


if __name__ == "__main__":
    main()
