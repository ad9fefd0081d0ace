"""Settings of an interrupted run compared with those of now; `test_train_small.py` resumes real runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.training.run.settings_file import check_settings

CHOSEN = TrainConfig()
ALL = TrainConfig(choose_blocks=False)
TWELVE = TrainConfig(blocks=12)


def as_json(config: TrainConfig) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(config)))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (CHOSEN, ALL, r"blocks \(chosen by training then, all now\)"),
        (ALL, TWELVE, r"blocks \(all then, 12 now\)"),
        (TWELVE, CHOSEN, r"blocks \(12 then, chosen by training now\)"),
    ],
)
def test_another_number_of_blocks_is_named_as_the_option_names_it(
    tmp_path: Path, then: TrainConfig, now: TrainConfig, said: str
) -> None:
    check_settings(tmp_path, as_json(then))
    with pytest.raises(ConfigError, match=rf"other settings: {said}; give the same ones"):
        check_settings(tmp_path, as_json(now))
    check_settings(tmp_path, as_json(then))
