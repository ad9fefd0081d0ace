"""What the documentation shows exists: commands, options, make targets, Python that works, files that are there."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from edgecls.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a language; "" is of none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown_commands() -> Iterator[tuple[str, bool]]:
    """Yield each `edgecls ...` that a document shows, and whether it is whole: text names a command and one option."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        lines = [line.removeprefix("$ ") for block in code_blocks(text) for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        yield from ((line, True) for line in lines if line.startswith("edgecls "))
        yield from ((line, False) for line in re.findall(r"`(edgecls [^`]+)`", prose))


@pytest.mark.parametrize(("line", "whole"), list(dict.fromkeys(shown_commands())))
def test_every_command_shown_is_one_that_edgecls_takes(line: str, whole: bool) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    if name == "COMMAND":
        return
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)
    assert command is not None
    with contextlib.nullcontext() if whole else contextlib.suppress(click.MissingParameter):
        command.make_context(name, arguments)


def test_every_command_is_in_the_readme_and_every_option_has_its_help() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"edgecls {name}" in readme, name
        command = main.get_command(click.Context(main), name)
        assert command is not None and command.help
        lacking = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
        assert not lacking, f"edgecls {name}: {lacking}"


def test_every_make_target_shown_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in DOCUMENTS:
        shown = set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert shown <= targets, (path.name, shown - targets)


def test_every_path_shown_is_there() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for shown in re.findall(r"\]\(([\w/.-]+)\)", text):
            assert (path.parent / shown).exists(), (path.name, shown)
        for shown in re.findall(r"`((?:edgecls|benchmarks|examples|devices|docs|tests)/[\w/.-]*)`", text):
            assert (ROOT / shown).exists(), (path.name, shown)


def test_the_python_shown_compiles() -> None:
    blocks = [block for path in DOCUMENTS for block in code_blocks(path.read_text(encoding="utf-8"), "python")]
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


# Run, not only read


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README has it: photos/train and photos/test of two classes, noisy stripes and plain."""
    root = tmp_path_factory.mktemp("tour")
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for name in ("crack", "fine"):
            folder = root / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                gray = random.normal(128, 12, (90, 70))
                gray[:, 20 + number :: 31] -= 90 * (name == "crack")
                Image.fromarray(gray.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


@pytest.mark.slow
def test_the_tour_runs_as_the_readme_has_it(photos: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tour = text[text.index("## Your own images") : text.index("## On the board")]
    lines = [line for block in code_blocks(tour) for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?(edgecls|python predict.py) ", line)]
    assert [line.split()[1] for line in commands[:4]] == ["train", "export", "predict", "evaluate"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(photos)}
    for command in commands:
        folder = photos
        if command.startswith("python predict.py"):
            folder = photos / "run" / "deploy"
            shutil.copy(photos / "photos" / "test" / "crack" / "0.jpg", folder / "part.png")
        done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert done.stdout, command
