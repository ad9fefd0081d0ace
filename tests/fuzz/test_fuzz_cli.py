"""Command lines of any words: exit code 0, 1 or 2 and a sentence, never a traceback.

Nothing here trains, exports, measures or reaches a board: the words lead to errors before that, or to quick commands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import fuzz, ran
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mutations import Draw, damaged

from edgecls.cli import main

# No NUL: no system hands one over.
ODD_WORDS: tuple[str, ...] = (
    "",
    "-",
    "--",
    "-h",
    "\udc80",
    "é",
    "x" * 5000,
    "/dev/null",
    "[",
    "-1",
    "0",
    "1e999",
    "nan",
)
ODD_WORDS += ("9" * 30, "1,4", "cpu", "cuda", "edgetpu", "litert", "ort", "raspberry-pi-4b", "--json")
QUICK = ("predict", "info", "evaluate", "selftest", "check", "devices", "report", "doctor", "nonsense")
# These get no file that they could work with for long.
SLOW = ("train", "export", "benchmark")
OPTIONS = {
    "predict": "--top-k --threshold --format --json --engine --threads --device --python --untrusted",
    "evaluate": "--json --untrusted",
    "selftest": "--python --untrusted",
    "check": "--device --compile --json",
    "devices": "--json",
    "report": "--json",
    "train": "--out --overwrite --resume --skip-bad --preview --preset --arch --image-size --alpha --head --weights "
    "--hidden --filters --epochs --dropout --time-budget --seed --flip --rotation --augment --no-augment",
    "export": "--int8 --fp16 --format --max-drop --device --layers --out --data",
    "benchmark": "--engine --threads --device --scope --images --seconds --fps --json --compare --markdown --plot",
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, tiny_tflite: Path) -> Iterator[dict[str, list[str]]]:
    """What may stand on the line of quick commands, and of slow ones; run in a folder of its own."""
    folder = tmp_path_factory.mktemp("cli")
    bad, empty, run = folder / "bad.tflite", folder / "empty", folder / "run"
    bad.write_bytes(tiny_tflite.read_bytes()[:-5])
    empty.mkdir()
    run.mkdir()
    (run / "run.json").write_text("{}")
    before = Path.cwd()
    os.chdir(folder)
    known = [str(path) for path in (bad, empty, run, run / "run.json", folder / "gone", empty / "below" / "gone")]
    yield {"quick": [*known, str(tiny_tflite)], "slow": known}
    os.chdir(before)


@st.composite
def lines(draw: Draw, words: dict[str, list[str]]) -> list[str]:
    command = draw(st.sampled_from([*QUICK, *SLOW]))
    paths = words["slow" if command in SLOW else "quick"]
    options = [*OPTIONS.get(command, "--json").split(), "--nonsense", "--help"]
    rest = draw(st.lists(st.sampled_from([*paths, *options, *ODD_WORDS]), max_size=7))
    return [command, *rest]


def run(arguments: list[str]) -> Any:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (0, 1, 2), (arguments, done.exit_code)
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exc_info)
    assert "Traceback" not in done.stderr
    assert done.exit_code == 0 or done.stderr.strip(), arguments
    return done


def test_any_words(words: dict[str, list[str]]) -> None:
    @fuzz(1200, quick=80)
    @given(lines(words))
    def show(arguments: list[str]) -> None:
        ran["command lines"] += 1
        run(arguments)

    show()


def test_any_file(words: dict[str, list[str]], tiny_tflite: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    commands = st.sampled_from(
        [["info"], ["info", "--json"], ["predict", str(path)], ["check", "--device", "coral-usb"]]
    )

    @fuzz(600, quick=40)
    @given(damaged((tiny_tflite.read_bytes(), tiny_onnx.read_bytes())), commands)
    def open_it(data: bytes, command: list[str]) -> None:
        ran["commands on damaged files"] += 1
        path.write_bytes(data)
        run([command[0], str(path), *command[1:]])

    open_it()
