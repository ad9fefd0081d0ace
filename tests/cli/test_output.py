"""What commands do with streams that are closed, full or narrow, odd names, no home and no current folder."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import LABELS, make_data

from edgecls.messages.names import safe

# Runs many commands in one process, as starting Python for each would take minutes; says what each ended with.
DRIVER = """
import json, sys
from edgecls.cli import main
ended = {}
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as error:
        ended[" ".join(arguments[:1])] = error.code
    except BaseException as error:
        ended[" ".join(arguments[:1])] = repr(error)
open(sys.argv[2], "w").write(json.dumps(ended))
"""
NAMES = (
    b"a\nb.png",
    b"esc\x1b[31mred.png",
    b"turn\xe2\x80\xaegpj.png",
    b"bad\xff.png",
    b'quote",x.png',
    "日本.png".encode(),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_tflite: Path) -> Path:
    """A folder with a model, images of odd names, and a dataset that has the model's labels."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(tiny_tflite, folder / "model.tflite")
    images = make_data(folder / "made", 4)
    for name, label in zip(("bright", "dark", "striped"), LABELS, strict=True):
        shutil.copytree(images / name, folder / "data" / label)
    (folder / "odd").mkdir()
    for raw in NAMES:
        shutil.copy(os.fsencode(images / "dark" / "03.png"), os.fsencode(folder / "odd") + b"/" + raw)
    return folder


def commands(place: Path) -> list[list[str]]:
    model = str(place / "model.tflite")
    return [
        ["info", model],
        ["predict", model, str(place / "odd"), "-"],
        ["evaluate", model, str(place / "data")],
        ["selftest", model],
        ["devices"],
        ["check", model, "--device", "raspberry-pi-4b"],
        ["estimate", model, "--device", "raspberry-pi-4b"],
        ["report", str(place / "data")],
        ["--help"],
        ["unknown"],
    ]


def run_all(place: Path, tmp_path: Path, shell: str, **environment: str) -> tuple[dict[str, object], str, str]:
    """Return what each command ended with, stdout and stderr, in a shell line that has "{}" for the process."""
    ended = tmp_path / "ended.json"
    process = shlex.join([sys.executable, "-c", DRIVER, json.dumps(commands(place)), str(ended)])
    clean = {name: value for name, value in os.environ.items() if name not in environment} | environment
    with (place / "made/dark/03.png").open("rb") as stdin:
        done = subprocess.run(
            ["bash", "-c", shell.format(process)],
            stdin=stdin,
            capture_output=True,
            env=clean,
            timeout=300,
            cwd=tmp_path,
        )
    errors = done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in errors and "Exception ignored" not in errors, errors
    assert done.returncode == 0, errors
    return json.loads(ended.read_text()), done.stdout.decode("utf-8", "replace"), errors


USUAL = {"info": 0, "predict": 0, "evaluate": 0, "selftest": 1, "devices": 0, "check": 0, "estimate": 0}
USUAL |= {"report": 1, "--help": 0, "unknown": 2}


@pytest.mark.parametrize(
    ("shell", "environment", "ended", "said"),
    [
        ("{}", {"PYTHONIOENCODING": "latin-1"}, USUAL, ""),
        # Here Python itself takes every letter beyond ASCII in a folder's name for bytes that are no text.
        ("{}", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, USUAL | {"evaluate": 1}, "non-UTF-8"),
        ("{} <&-", {}, USUAL | {"predict": 1}, "cannot read an image from stdin"),
        ("{} 2>&-", {}, USUAL, ""),
        # Python finds out at once that stderr is full, and not only at its end.
        ("{} 2>/dev/full", {"PYTHONUNBUFFERED": "1"}, USUAL | {"report": 1, "unknown": 1}, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {}", {}, USUAL, ""),
        ("unset HOME XDG_CACHE_HOME; {}", {}, USUAL, ""),
        ("ulimit -n 20; {}", {}, USUAL, ""),
    ],
)
def test_every_command_ends_in_words(
    shell: str, environment: dict[str, str], ended: dict[str, int], said: str, place: Path, tmp_path: Path
) -> None:
    got, _, errors = run_all(place, tmp_path, shell, **environment)
    assert got == ended
    assert said in errors


@pytest.mark.parametrize("arguments", [["devices"], ["--help"], ["devices", "--help"], ["unknown"]])
@pytest.mark.parametrize(
    ("shell", "cause"),
    [(">&-", "it is closed|Bad file"), (">/dev/full", "No space left on device"), ("<&- >&- 2>&-", "")],
)
def test_stdout_that_cannot_be_written_is_reported(shell: str, cause: str, arguments: list[str]) -> None:
    done = subprocess.run(["bash", "-c", f"{shlex.join(start(*arguments))} {shell}"], capture_output=True, text=True)
    assert done.returncode == (2 if arguments == ["unknown"] else 1), done.stderr
    assert re.search("No such command" if cause and arguments == ["unknown"] else cause, done.stderr)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def start(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgecls", *map(str, arguments)]


def on_terminal(*arguments: object) -> str:
    leader, terminal = pty.openpty()
    with subprocess.Popen(start(*arguments), stdin=terminal, stdout=terminal, stderr=terminal):
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(leader, 65536):
                shown += part
        # What Linux says once nobody has the terminal any more.
        except OSError:
            os.close(leader)
    return shown.decode()


def test_a_pipe_gets_the_true_names(place: Path) -> None:
    done = subprocess.run(
        start("predict", place / "model.tflite", place / "odd", "--format", "csv"), capture_output=True
    )
    text = done.stdout.decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert sorted(os.fsencode(row[0]).rpartition(b"/")[2] for row in rows[1:]) == sorted(NAMES)
    assert all(len(row) == 4 + len(LABELS) for row in rows)
    done = subprocess.run(start("predict", place / "model.tflite", place / "odd", "--json"), capture_output=True)
    assert sorted(os.fsencode(Path(each["image"]).name) for each in json.loads(done.stdout)) == sorted(NAMES)
    done = subprocess.run(start("predict", place / "model.tflite", place / "odd"), capture_output=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(NAMES)
    assert [line.rpartition(b": ")[0].rpartition(b"/")[2].replace(rb"\n", b"\n") for line in lines] == sorted(NAMES)


@pytest.mark.parametrize("form", ["text", "csv"])
def test_a_terminal_gets_no_control_characters(form: str, place: Path) -> None:
    gone = place / "gone\x1b[31mred.png"
    shown = on_terminal("predict", place / "model.tflite", place / "odd", gone, "--format", form)
    assert r"esc\x1b[31mred.png" in shown and r"turn\u202egpj.png" in shown and r"gone\x1b[31mred.png" in shown
    assert r"a\nb.png" in shown and r"bad\udcff.png" in shown and "日本.png" in shown
    # Our own colors begin and end lines; nothing else may.
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", re.sub(r"\x1b\[(31|0)m(?=Error|\r?\n)", "", shown))
    (shown,) = {on_terminal(command, "x\x1b[31my") for command in ("info",)}
    assert r"x\x1b[31my" in shown and "\x1b" not in shown
    assert "\x1b" not in on_terminal("devices", "x\x1b[31my")


def test_a_reader_that_goes_away_is_no_error_to_speak_of(place: Path) -> None:
    line = f"{shlex.join(start('devices'))} | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=100)
    assert done.stderr == ""


def test_letters_and_spaces_of_all_scripts_stay() -> None:
    text = "Größe 日本 עברית हिन्दी 3.04\u202fPM\n"
    assert safe(text) == text
    assert safe("\x1b\r\x07\u202e\udcff\x7f") == r"\x1b\r\x07\u202e\udcff\x7f"
