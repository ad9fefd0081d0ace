from __future__ import annotations

import io
import re
import sys

import pytest

from edgecls.cli import progress as progress_module
from edgecls.cli.progress import LiveProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by the test itself: pytest changes stderr between a fixture and the test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return terminal


def test_without_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with LiveProgress() as progress:
        for done in range(1, 1201):
            progress("read images", done, 1200)
        clock.now += 3
        progress("train classifier", 7, 60, "val 0.9312, best 0.9401")
    assert capsys.readouterr().err.splitlines() == [
        "read images: 1,200/1,200 in 3 s",
        "train classifier: 7/60 in 0 s, val 0.9312, best 0.9401",
    ]


def test_a_long_stage_is_heard_of_now_and_then(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with LiveProgress() as progress:
        for done in range(1, 7):
            progress("train classifier", done, 6, f"val 0.{done}")
            clock.now += 10
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(":")[1] for line in said.err.splitlines()] == [
        " 3/6 in 20 s, val 0.3",
        " 5/6 in 40 s, val 0.5",
        " 6/6 in 60 s, val 0.6",
    ]


def test_the_end_of_a_long_stage_is_one_line(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with LiveProgress() as progress:
        progress("convert model-int8.tflite", 0, 1)
        clock.now += 44
        progress("convert model-int8.tflite", 1, 1)
    assert capsys.readouterr().err.splitlines() == ["convert model-int8.tflite: 1/1 in 44 s"]


def test_the_last_of_several_networks_is_heard_of_too(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with LiveProgress() as progress:
        for epoch in range(1, 5):
            progress("network b", 2, 2, f"epoch {epoch}")
            clock.now += 10
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()] == ["epoch 3", "epoch 4"]


def test_the_same_stage_can_begin_again(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveProgress() as progress:
        progress("score", 5, 5)
        progress("score", 1, 5)
    assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == ["score: 5/5", "score: 1/5"]


def test_a_terminal_shows_bar_time_and_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = open_terminal(monkeypatch)
    with LiveProgress() as progress:
        progress("read [images]", 3, 4)
        progress("train classifier", 1, 60, "val 0.9312")
        progress("train classifier", 2, 60)
    shown = terminal.getvalue()
    assert "read [images]: 3/4 in 0 s" in shown and "train classifier: 2/60 in 0 s, val 0.9312" in shown
    last = shown[shown.index("train classifier") :]
    assert "2/60" in last and "left" in last and "val 0.9312" in last
    # The cursor that the bar hid is back.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert capsys.readouterr().out == ""


def test_results_printed_meanwhile_stay_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = open_terminal(monkeypatch)
    with LiveProgress() as progress:
        progress("read images", 1, 2)
        sys.stdout.write("result\n")
    assert capsys.readouterr().out == "result\n" and "result" not in terminal.getvalue()


def test_an_interruption_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), LiveProgress() as progress:
        progress("train classifier", 1, 60)
        raise KeyboardInterrupt
    assert sys.stderr is terminal
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_without_rich_lines_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr(progress_module, "find_spec", lambda _: None)
    with LiveProgress() as progress:
        progress("read images", 2, 2)
    assert terminal.getvalue() == "read images: 2/2 in 0 s\n"


@pytest.mark.parametrize("columns", [30, 40, 80, 120])
def test_numbers_stay_whole_in_a_narrow_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 columns and fewer, Rich shortened them to "31..." and the words stayed whole."""
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    with LiveProgress() as progress:
        progress("augmented: features of copy 2 of 3", 310, 900, "val 0.9312, best 0.9401")
        assert progress._bars is not None
        progress._bars.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
    assert any("310/900 0:00:0" in line for line in shown)
    assert max(len(line) for line in shown if "copy 2 of 3: 310" not in line) <= columns
