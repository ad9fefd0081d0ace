from __future__ import annotations

import onednn


def test_the_ratio_is_of_trainings_with_the_same_seed() -> None:
    runs = {
        "TensorFlow": [{"seconds": 80.0, "accuracy": 0.96}, {"seconds": 60.0, "accuracy": 0.95}],
        "oneDNN": [{"seconds": 40.0, "accuracy": 0.96}, {"seconds": 50.0, "accuracy": 0.96}],
    }
    header, cells = onednn.table({"effort": "quick", "runs": runs})
    found = dict(zip(header, cells, strict=True))
    assert found["times as fast"] == "1.60 [1.20, 2.00]" and found["oneDNN's kernels, s"] == "45"
    assert found["test accuracy, both"] == "95.50 %, 96.00 %"
