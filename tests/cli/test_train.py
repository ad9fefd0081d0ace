"""Options and help of edgecls train; what it does is in test_commands.py and tests/training."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run
from training_run import make_images

from edgecls.cli import train as command
from edgecls.cli.train import train
from edgecls.cli.train_options import GROUPS, Blocks
from edgecls.config import TrainConfig


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


def test_blocks_takes_a_number_or_all(tmp_path: Path) -> None:
    refused = run("train", tmp_path, "--out", tmp_path / "run", "--blocks", "most")
    assert refused.exit_code == 2 and "'most' is neither a whole number nor all" in refused.stderr
    refused = run("train", tmp_path, "--out", tmp_path / "run", "--blocks", "18")
    assert refused.exit_code == 2 and "blocks must be 1 to 17; received 18" in refused.stderr
    for text, expected in (("all", "all"), ("ALL", "all"), ("12", 12)):
        assert Blocks().convert(text, None, None) == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [([], 96), (["--image-size", "128"], 128), (["--arch", "cnn"], 224), (["--preset", "lecture-transfer"], 256)],
)
def test_small_images_get_a_small_network_unless_the_user_says_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], size: int
) -> None:
    make_images(tmp_path / "data")
    configs: list[TrainConfig] = []
    monkeypatch.setattr(command, "_train", lambda data, out, config, *_: configs.append(config))
    done = run("train", tmp_path / "data", "--out", tmp_path / "run", *options)
    assert done.exit_code == 0, done.output
    assert [config.image_size for config in configs] == [size]
    assert ("The images are small, so the network takes 96 x 96 pixels" in done.stderr) == (size == 96)


@pytest.mark.parametrize(
    ("blocks", "accuracies", "expected"),
    [
        (14, {"14": 0.983, "all": 0.968}, "the first 14 of 17 blocks: they label 98.3 % of the training images "),
        (12, {"12": 0.966, "all": 0.968}, "label 96.6 % of the training images correctly, all blocks 96.8 %, which "),
        (None, {"14": 0.95, "all": 0.968}, "all blocks: they label 96.8 % of the training images correctly, fewer "),
        (14, {}, ""),
    ],
)
def test_the_network_that_was_chosen_is_named(
    capsys: pytest.CaptureFixture[str], blocks: int | None, accuracies: dict[str, float], expected: str
) -> None:
    weights = {"source": "imagenet-torch", "sha256": "2f518e773d44aa"}
    command._print_network({"weights": weights, "config": {"blocks": blocks}, "depth_accuracies": accuracies})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("weights ") and lines[1:] == [line for line in lines[1:] if expected in line]
    assert len(lines) == 1 + bool(expected) and "96.8 %" in "".join([*lines, "96.8 %" * (not expected)])
