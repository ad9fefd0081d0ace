"""A sweep whose times come from a board: this machine behind a real sshd on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from board_sshd import BoardSshd
from command_line import run as edgecls

from edgecls.boards.doctor import find_profile
from edgecls.boards.machine import read_machine

HERE = find_profile(read_machine())
GRID = ("--budget", "25ms", "--arch", "cnn,mlp", "--image-size", "32", "--epochs", "2", "--no-augment", "--max-drop", 1)

pytestmark = pytest.mark.skipif(HERE is None or bool(HERE.accelerator), reason="this machine has no profile")


def options(board: BoardSshd) -> list[str]:
    return ["--host", "board", "--python", str(board.python)]


@pytest.mark.slow
def test_the_board_times_what_is_made_here(board: BoardSshd, tiny_data: Path, tmp_path: Path) -> None:
    done = edgecls("sweep", tiny_data, *options(board), *GRID, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "medians measured on board of one image" in done.stdout
    document = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert HERE is not None
    assert (document["host"], document["device"]) == ("board", HERE.name)
    assert {row["latency"] for row in document["candidates"]} == {"measured"}
    assert all(0 < row["low_ms"] <= row["p50_ms"] <= row["high_ms"] < 25 for row in document["candidates"])
    assert "copying to board: 2/2" in done.stderr
    # The fixture sees that nothing is left.


@pytest.mark.parametrize(
    ("device", "message"),
    [("raspberry-pi-4b", "board is a {here}, not a raspberry-pi-4b; leave --board out"), ("pi", "Unknown board 'pi'")],
)
def test_another_board_is_reported_before_anything_is_trained(
    board: BoardSshd, device: str, message: str, tiny_data: Path, tmp_path: Path
) -> None:
    done = edgecls("sweep", tiny_data, *options(board), *GRID, "--board", device, "--out", tmp_path / "out")
    assert done.exit_code == 2 and HERE is not None
    assert message.format(here=HERE.name) in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_board_that_does_not_answer_is_reported_before_anything_is_trained(tiny_data: Path, tmp_path: Path) -> None:
    done = edgecls("sweep", tiny_data, "--host", "nowhere.invalid", *GRID, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "nowhere.invalid" in done.stderr
    assert not (tmp_path / "out").exists()
