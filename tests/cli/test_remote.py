"""benchmark, predict and selftest on a board: what comes back is what the command says here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from board_sshd import WAIT_S, BoardSshd
from click.testing import CliRunner, Result
from command_line import run
from golden_samples import shifted_scores

from edgecls.benchmark.record import read_record
from edgecls.cli import main
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec

LONG = ("--seconds", "300", "--threads", "1")


def options(board: BoardSshd) -> list[str]:
    return ["--host", "board", "--python", str(board.python)]


def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgecls", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def copied(count: int) -> str:
    return f"copying to board: {count}/{count} in 0 s\n"


# selftest


def test_selftest_says_there_what_it_says_here(board: BoardSshd, int8: Path) -> None:
    there = run("selftest", int8, *options(board))
    assert (there.exit_code, there.stderr) == (0, copied(1))
    assert there.stdout == run("selftest", int8).stdout


def test_a_failed_selftest_exits_here_with_1_too(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    _, graph, spec = read_model_file(int8.read_bytes())
    forged = tmp_path / "forged.tflite"
    golden = tuple(sample | shifted_scores(0.2)(sample) for sample in spec.golden)
    forged.write_bytes(attach_spec(graph, replace(spec, golden=golden), "tflite"))
    there = run("selftest", forged, *options(board))
    assert (there.exit_code, there.stdout) == (1, "")
    assert there.stderr.removeprefix(copied(1)) == run("selftest", forged).stderr


# predict


@pytest.fixture
def odd_pictures(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that shells, tar, ssh or option parsers trip over, relative to the working folder."""
    names = [
        "a b.png",
        "it's.png",
        '"$(touch x)`;#&.png',
        "Grüße 写真.png",
        "-rf.png",
        "*.png",
        "no-suffix",
        "\\n\n.png",
    ]
    names.append(os.fsdecode(b"\xff.png"))
    monkeypatch.chdir(pictures[0].parent)
    for place, name in enumerate(names):
        Path(name).write_bytes(pictures[place % len(pictures)].read_bytes())
    return names


@pytest.mark.parametrize(
    "form",
    [
        [],
        ["--top-k", "2"],
        ["--threshold", "1"],
        ["--format", "csv"],
        ["--format", "jsonl"],
        ["--json"],
        ["--untrusted"],
    ],
    ids=str,
)
def test_predict_prints_the_same_as_here(
    board: BoardSshd, form: list[str], int8: Path, pictures: list[Path], odd_pictures: list[str]
) -> None:
    images = [*pictures, pictures[0].parent, "--", *odd_pictures]
    there = run("predict", int8, *options(board), *form, *images)
    here = run("predict", int8, *form, *images)
    assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
    assert there.exit_code == 0 and here.stdout.count("dark") > 2


def test_predict_takes_an_image_on_stdin_and_settings(board: BoardSshd, int8: Path, pictures: list[Path]) -> None:
    def classify(*more: str) -> Result:
        arguments = ["predict", str(int8), "-", str(pictures[0]), "--threads", "1", "--engine", "litert", *more]
        return CliRunner().invoke(main, arguments, input=pictures[2].read_bytes())

    assert classify(*options(board)).stdout == classify().stdout != ""


@pytest.mark.parametrize("form", ["text", "csv"])
def test_unreadable_images_are_reported_by_the_users_names(
    board: BoardSshd, int8: Path, pictures: list[Path], tmp_path: Path, form: str
) -> None:
    (tmp_path / "it's bad.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    images = [tmp_path / "gone.png", pictures[0], tmp_path / "it's bad.png", tmp_path / "empty", pictures[1]]
    there = run("predict", int8, *options(board), "--format", form, *images)
    here = run("predict", int8, "--format", form, *images)
    assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
    reported = [line for line in here.stderr.splitlines() if "could not be read" not in line]
    assert len(reported) == 3 and set(reported) < set(there.stderr.splitlines())


def test_no_readable_image_needs_no_board(int8: Path) -> None:
    done = run("predict", int8, "gone.png", "--host", "nowhere.invalid")
    assert done.exit_code == 1
    assert "gone.png: No such file" in done.stderr and "1 of 1 image could not be read" in done.stderr


# benchmark


def test_the_boards_record_comes_back(
    board: BoardSshd, int8: Path, file_named: Callable[[str], Path], pictures: list[Path], tmp_path: Path
) -> None:
    files = (int8, file_named("model-int8.onnx"))
    old, more = tmp_path / "old.json", ["--seconds", "0.1", "--threads", "1", "--images", pictures[0].parent]
    done = run("benchmark", *files, *options(board), *more, "--scope", "end-to-end", "--json", old)
    assert done.exit_code == 0, done.stderr
    record = read_record(old)
    assert [result.file for result in record.results] == [str(file) for file in files]
    assert record.machine["host"] == "board" and record.states[0]["at_s"] > 0
    assert {(result.scope, result.threads) for result in record.results} == {("end-to-end", 1)}
    assert " at board (" in done.stdout and "model-int8.onnx" in done.stdout
    again = run(
        *("benchmark", *files, *options(board), *more, "--scope", "end-to-end", "--compare", old, "--force"),
        *("--markdown", "--plot", tmp_path / "a.png"),
    )
    assert again.stdout.startswith("| file | engine |")
    # Two short measurements may differ; the status must agree with the verdict.
    assert again.exit_code == int("Error: slower than before" in again.stderr), again.stderr
    assert "new / old" in again.stdout and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_profile_on_a_board(board: BoardSshd, file_named: Callable[[str], Path], tmp_path: Path) -> None:
    onnx = file_named("model-int8.onnx")
    shown = run("benchmark", onnx, *options(board), "--profile", "--seconds", "0.5")
    assert shown.exit_code == 0, shown.stderr
    assert str(onnx) in shown.stdout and "Conv" in shown.stdout
    kept = run("benchmark", onnx, *options(board), "--profile", "--seconds", "0.5", "--json", tmp_path / "p.json")
    assert (kept.exit_code, kept.stdout) == (0, "")
    assert json.loads((tmp_path / "p.json").read_text())["file"] == str(onnx)


def test_usage_errors_of_the_board_exit_with_2(board: BoardSshd, int8: Path) -> None:
    done = run("benchmark", int8, *options(board), "--scope", "end-to-end")
    assert done.exit_code == 2
    assert "with --images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selftest", "{file}", "--python", "python3"], "it needs --host"),
        (["selftest", "{file}", "--host", " "], "--host needs a name"),
        (["predict", "{file}", "--watch", ".", "--host", "board"], "--watch uses a local folder"),
        (["benchmark", "{file}", "--profile", "--plot", "a.png", "--host", "board"], "--plot cannot draw the profile"),
        (["benchmark", "{file}", "--seconds", "0", "--host", "board"], "seconds must be above 0"),
        (["benchmark", "{file}", "--engine", "ort", "--host", "board"], "cannot run tflite files"),
    ],
)
def test_wrong_usage_is_reported_without_a_board(arguments: list[str], message: str, int8: Path) -> None:
    done = run(*(argument.format(file=int8) for argument in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


# Interrupted


def test_a_cut_connection_is_reported_and_the_board_ends_its_work(board: BoardSshd, int8: Path) -> None:
    with start("benchmark", int8, *options(board), *LONG) as process:
        board.wait_until_working()
        board.cut()
        stdout, stderr = process.communicate(timeout=WAIT_S)
    assert (process.returncode, stdout) == (1, "")
    assert "Error: the connection to board was cut while running benchmark (last line: " in stderr
    assert "repeat the command" in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_the_command_here_ends_it_there(board: BoardSshd, int8: Path, number: int) -> None:
    with start("benchmark", int8, *options(board), *LONG) as process:
        board.wait_until_working()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == (1 if number == signal.SIGINT else -number)
    assert "Traceback" not in stderr
    # The fixture sees that nothing is left.


def test_on_a_terminal_ssh_asks_for_a_new_host_key(board: BoardSshd, int8: Path) -> None:
    board.known_hosts.write_text("")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "edgecls", "selftest", str(int8), *options(board)])
    said = b""
    while b"(yes/no" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"yes\n")
    try:
        while text := os.read(terminal, 1000):
            said += text
    except OSError:  # How Linux says that nobody is at the other end any more.
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said.decode()
    assert b"ok: decode, resize and" in said
