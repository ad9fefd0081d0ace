"""Options and help of edgecls train; what it does is in test_commands.py and tests/training."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run

from edgecls.cli.train import train
from edgecls.cli.train_options import GROUPS


def test_the_help_shows_each_option_once_in_its_group() -> None:
    text = run("train", "--help").output
    titles = [*(f"\n{title}:\n" for title in GROUPS), "\nOptions:\n"]
    positions = [text.index(title) for title in titles]
    assert positions == sorted(positions) and text.index("--ray ADDRESS") > text.index("--seed")
    options = [option for option in train.params if option.param_type_name == "option" and option.name != "views"]
    for option in options:
        assert text.count(f"\n  {option.opts[0]} ") == 1, option.name


@pytest.mark.parametrize("option", ["--views", "--augmented-copies"])
def test_the_former_name_of_augmented_copies_still_works(tmp_path: Path, option: str) -> None:
    done = run("train", tmp_path, "--out", tmp_path / "run", option, "101")
    assert done.exit_code == 2 and "augmented copies must be 0 to 100; received 101" in done.stderr
    assert "--views" not in run("train", "--help").output


@pytest.mark.parametrize(
    ("arch", "option"), [("mlp", "--alpha=0.5"), ("cnn", "--head=gap"), ("mobilenet_v2", "--filters=8")]
)
def test_a_setting_of_another_architecture_is_named(tmp_path: Path, arch: str, option: str) -> None:
    done = run("train", tmp_path, "--out", tmp_path / "run", "--arch", arch, option)
    name = option.split("=")[0]
    assert f"{name} has no effect" in done.stderr and f"the network is {arch} (--arch)" in done.stderr
    assert "no effect" not in run("train", tmp_path, "--out", tmp_path / "run", "--arch", arch).stderr
