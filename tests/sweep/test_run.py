"""One network of a sweep; its files and scores are in test_sweep.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecls.config import TrainConfig
from edgecls.progress import silent
from edgecls.sweep import run as sweep_run
from edgecls.training.train import TrainResult


@pytest.mark.parametrize("blocks", [None, 9])
def test_training_chooses_no_blocks_for_a_network_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: int | None
) -> None:
    trained: list[TrainConfig] = []

    def train(data: Path, run: Path, config: TrainConfig, **_: Any) -> TrainResult:
        trained.append(config)
        return TrainResult({}, (), ())

    monkeypatch.setattr(sweep_run, "train", train)
    sweep_run.train_run(tmp_path, tmp_path / "run", TrainConfig(blocks=blocks), silent)
    (config,) = trained
    assert not config.leaves_blocks_open and config.blocks == blocks
