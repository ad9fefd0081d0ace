from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.cli.train import train
from edgecls.cli.train_options import SETTINGS
from edgecls.config import AugmentConfig, TrainConfig
from edgecls.networks.presets import PRESETS, resolve
from edgecls.report.settings import describe_changes, find_changes, read_config, train_command

fractions = st.sampled_from([0.0, 0.1, 0.25])
augments = st.none() | st.builds(
    AugmentConfig, flip=st.sampled_from(["none", "vertical"]), rotation=fractions, zoom=fractions, contrast=fractions
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 9),
        "learning_rate": st.sampled_from([1e-4, 3e-3]),
        "hidden": st.sampled_from([(), (8,), (16, 4)]),
        "balance": st.booleans(),
        "time_budget_s": st.sampled_from([30.0, 90.5]),
        "augment": augments,
        "weights": st.just("my weights.h5"),
    },
)


@given(st.sampled_from([TrainConfig(), *PRESETS.values()]), changes)
def test_the_changes_lead_back_to_the_settings(base: TrainConfig, changed: dict[str, Any]) -> None:
    config = dataclasses.replace(base, **changed)
    explicit = find_changes(config, base)
    assert resolve(base.preset, explicit) == config
    assert read_config(json.loads(json.dumps(dataclasses.asdict(config)))) == config


@given(st.sampled_from([TrainConfig(), *PRESETS.values()]), changes)
def test_the_command_line_reads_the_command(base: TrainConfig, changed: dict[str, Any]) -> None:
    config = dataclasses.replace(base, **changed)
    words = shlex.split(train_command(config, ["my photos"], Path("run")))
    # Click keeps the first names of the help option that it sees for all later tests.
    read = train.make_context("train", words[2:], help_option_names=["-h", "--help"]).params
    assert words[:2] == ["edgecls", "train"] and (read["data"], read["out"]) == ((Path("my photos"),), Path("run"))
    given_settings = {name: read[name] for name in SETTINGS if read[name] is not None}
    assert resolve(read["preset"] or "", given_settings) == config


def test_default_settings_need_no_words() -> None:
    assert describe_changes(TrainConfig()) == []
    assert train_command(TrainConfig(), ["photos"], Path("run")) == "edgecls train photos --out run"


def test_changed_settings_are_options() -> None:
    config = TrainConfig(
        epochs=5, balance=True, hidden=(32, 16), time_budget_s=90.0, augment=AugmentConfig(flip="vertical", zoom=0)
    )
    words = "--hidden 32,16 --epochs 5 --balance --time-budget 90s --flip vertical --zoom 0"
    assert train_command(config, ["my photos"], Path("run")) == f"edgecls train 'my photos' --out run {words}"
    several = TrainConfig(more_data=("/board photos",))
    assert train_command(several, ["a", "/board photos"], Path("r")) == "edgecls train a '/board photos' --out r"
    assert dict(describe_changes(config))["time budget"] == "90s"
    assert dict(describe_changes(config))["balance"] == "on"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_is_named_and_nothing_else(preset: str) -> None:
    assert shlex.split(train_command(PRESETS[preset], ["d"], Path("r")))[5:] == ["--preset", preset]
    off = dataclasses.replace(PRESETS["lecture-cnn-augment"], augment=None)
    assert train_command(off, ["d"], Path("r")).endswith("--no-augment")


def test_a_run_of_another_version_is_read() -> None:
    # It kept all blocks where none were given.
    old = read_config({"epochs": 7, "no_longer_known": 1})
    assert old == TrainConfig(epochs=7, choose_blocks=False)
    assert train_command(old, ["d"], Path("r")) == "edgecls train d --out r --epochs 7 --blocks all"
    assert dict(describe_changes(old))["blocks"] == "all"


def test_settings_of_an_older_version_are_read_under_their_new_names() -> None:
    assert read_config({"views": 5}).augmented_copies == 5
