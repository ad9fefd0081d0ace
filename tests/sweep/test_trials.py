from __future__ import annotations

from pathlib import Path

import pytest

from edgecls.cli.progress import LiveProgress
from edgecls.config import TrainConfig
from edgecls.sweep.grid import NamedNetwork
from edgecls.sweep.latency import find_deployment
from edgecls.sweep.trials import QueuedNetwork, Setting, _one_stage


def test_each_network_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveProgress() as progress:
        setting = Setting(Path("photos"), Path("sweep"), find_deployment(None), 0.01, progress)
        for number, name in enumerate(("small", "large"), 1):
            report = _one_stage(setting, QueuedNetwork(NamedNetwork(name, TrainConfig()), number, 2))
            report("read images", 8, 8)
            for epoch in range(3):
                report("train classifier", epoch, 60, "val 0.93")
            report(f"accuracy {90 + number}.0 %", 1, 1)
    assert capsys.readouterr().err.splitlines() == [
        "small: 1/2 in 0 s, accuracy 91.0 %",
        "large: 2/2 in 0 s, accuracy 92.0 %",
    ]
