"""All that the documents show exists: commands, options, messages, make targets, files. Their commands run."""

from __future__ import annotations

import ast
import contextlib
import errno
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
import pyarrow
import pytest
from keras_models import train_model
from PIL import Image
from pyarrow import parquet

from edgecls.cli import COMMANDS, main
from edgecls.networks.presets import PRESETS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Options of Docker and pip.
NOT_OURS = {"--user", "--platform", "--find-links"}


def code_blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a language; "" stands for blocks without one."""
    return [block for found, block in all_blocks(text) if found == language]


def all_blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, text) of all fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def shown_commands() -> Iterator[tuple[str, bool]]:
    """Yield each `edgecls ...` of a document, and whether it is complete: prose may omit required arguments."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        lines = [line.removeprefix("$ ") for block in code_blocks(text) for line in block.splitlines()]
        yield from ((line, True) for line in lines if line.startswith("edgecls "))
        yield from ((line, False) for line in re.findall(r"`(edgecls [^`]+)`", prose(text)))


@pytest.mark.parametrize(("line", "whole"), list(dict.fromkeys(shown_commands())))
def test_every_command_shown_is_one_that_edgecls_takes(line: str, whole: bool) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    if name == "COMMAND":
        return
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)
    assert command is not None
    hidden = {flag for each in command.params if isinstance(each, click.Option) and each.hidden for flag in each.opts}
    assert not hidden & set(arguments), "an old spelling"
    with contextlib.nullcontext() if whole else contextlib.suppress(click.MissingParameter):
        command.make_context(name, arguments, parent=click.Context(main, **main.context_settings))


def test_every_command_is_in_the_readme_and_every_option_has_its_help() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"edgecls {name}" in readme, name
        command = main.get_command(click.Context(main), name)
        assert command is not None and command.help
        options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
        lacking = [each.name for each in options if not each.help]
        assert not lacking, f"edgecls {name}: {lacking}"


def test_every_option_named_is_one_of_a_command() -> None:
    known = set(NOT_OURS)
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        known |= {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
    for path in DOCUMENTS:
        named = set(re.findall(r"`(--[a-z0-9-]+)", prose(path.read_text(encoding="utf-8"))))
        assert named <= known, (path.name, named - known)


def test_the_guide_for_users_of_the_lecture_names_every_preset() -> None:
    guide = (ROOT / "docs" / "from-the-lecture.md").read_text(encoding="utf-8")
    assert set(PRESETS) == set(re.findall(r"^edgecls train .* --preset (\S+)$", guide, re.MULTILINE))


def texts_of_the_code() -> Iterator[str]:
    """Yield each text in the code, with an ellipsis for what is put into it."""
    for path in (ROOT / "edgecls").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"{\w+}", "…", node.value)
    yield from map(os.strerror, errno.errorcode)


def test_every_message_in_troubleshooting_is_one_of_the_code() -> None:
    lines = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    messages = [
        message for line in lines if line[:2] == "| " for message in re.findall("`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(messages) > 12
    texts = list(texts_of_the_code())
    assert [message for message in messages if not any(message in each for each in texts)] == []


def test_the_readme_can_be_read_in_ten_minutes() -> None:
    text = re.sub("<!--.*?-->", "", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(re.findall(r"\S*[^\W_]\S*", text)) <= 1500


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


def test_the_glossary_is_sorted_and_short() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = [" ".join(part.split()) for part in text.split("\n\n")[1:]]
    terms = [re.fullmatch(r"\*\*(.+?)\*\* — (.+)", entry) for entry in entries]
    assert all(terms) and len(terms) > 40, entries
    names = [term[1].lower() for term in terms if term]
    assert names == sorted(set(names))
    assert [entry for entry in entries if len(re.findall(r"[.!?](?= |$)", entry)) > 2] == []


def test_every_heading_linked_to_is_there() -> None:
    seen = 0
    for path in DOCUMENTS:
        for file, anchor in re.findall(r"\]\(([\w/.-]*)#([\w-]+)\)", path.read_text(encoding="utf-8")):
            text = (path.parent / file if file else path).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
            # As the sites that show Markdown make them.
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, (path.name, file, anchor)
            seen += 1
    assert seen > 2


def test_the_python_shown_compiles() -> None:
    blocks = [block for path in DOCUMENTS for block in code_blocks(path.read_text(encoding="utf-8"), "python")]
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


# Run, not only read


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the README: photos with two classes, dark stripes and plain, both noisy; and collected ones."""
    root = tmp_path_factory.mktemp("tour")
    random = np.random.default_rng(0)
    for name in ("collected", "records"):
        (root / "board-photos" / name).mkdir(parents=True)
    for part, count in (("photos/train", 24), ("photos/test", 8), ("board-photos/labeled", 8)):
        for name in ("crack", "fine"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                gray = random.normal(128, 12, (90, 70))
                gray[:, 20 + number :: 31] -= 90 * (name == "crack")
                Image.fromarray(gray.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


# These need another machine, a network or other hardware, or never end.
CANNOT_RUN = (
    "edgecls serve",
    "edgecls web",
    "--host",
    "--watch",
    "--compile",
    "--ray head-node",
    "--device cuda",
    "--device edgetpu",
    "pi.json",
)
# `benchmark --compare` fails if the machine was slower the second time. An export for a Coral, whose scores have 256
# steps, fails if one of these 16 images is labeled differently.
MAY_FAIL = ("--compare", "--board coral-usb")


def run_command(command: str, folder: Path) -> bool:
    """Run a command of a document in a shell; fail with its output if it has none, or may not fail and does.

    Return whether it succeeded.
    """
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or any(flag in command for flag in MAY_FAIL), (command, done.stdout, done.stderr)
    assert done.stdout, command
    return done.returncode == 0


def runnable() -> Iterator[tuple[str, str]]:
    """Yield (language, text): each command and each block of Python that documents show and that can run here."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for language, block in all_blocks(text):
            if language == "python":
                yield language, block
                continue
            for command in (line.removeprefix("$ ") for line in block.splitlines()):
                if re.match("edgecls |python predict.py ", command) and not any(part in command for part in CANNOT_RUN):
                    yield "sh", command


@pytest.mark.slow
def test_every_command_and_all_python_shown_runs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photos / "photos" / "test" / "crack" / "0.jpg"
    shutil.copy(image, photos / "part.png")
    train_model(photos / "photos" / "train", photos / "lecture.keras")
    (photos / "list.txt").write_text(f"{image}\n", encoding="utf-8")
    parquet.write_table(pyarrow.table({"path": [str(image)]}), photos / "table.parquet")
    namespace: dict[str, object] = {"frame": np.zeros((90, 70, 3), np.uint8), "paths": ["part.png"]}
    monkeypatch.chdir(photos)
    ran = []
    for language, text in dict.fromkeys(runnable()):
        if language == "python":
            exec(text, namespace)
            continue
        folder = photos
        if text.startswith("python predict.py"):
            folder = photos / "run" / "deploy"
            shutil.copy(photos / "part.png", folder)
        if not run_command(text, folder) and text.startswith("edgecls export run "):
            # The rejected file replaced the one that other commands take.
            run_command("edgecls export run --int8", folder)
        ran.append(text.split()[1])
        if ran[-1] == "export":
            for file in (photos / "run" / "export").glob("model-int8.*"):
                shutil.copy(file, photos)
    assert ran[:3] == ["train", "export", "predict"] and "predict.py" in ran
    assert {"evaluate", "selftest", "check", "estimate", "sweep", "choose", "benchmark", "report"} <= set(ran)
