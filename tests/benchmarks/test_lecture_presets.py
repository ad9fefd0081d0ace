from __future__ import annotations

from typing import Any

import lecture_presets

ROW: dict[str, Any] = {
    "preset": "lecture-dense",
    "image_size": 256,
    "train_seconds": 61.4,
    "epochs": 23,
    "float_accuracy": 0.7017,
    "float_macro_f1": 0.1374,
    "int8_accuracy": 0.6903,
    "int8_macro_f1": 0.1366,
    "int8_passed": True,
    "bytes": 8_450_000,
    "p50_ms": 1.234,
    "p50_low_ms": 1.2,
    "p50_high_ms": 1.26,
    "valid": True,
    "causes": [],
}


def test_a_row_says_what_was_measured_and_what_is_not_valid() -> None:
    rejected = ROW | {"preset": "", "int8_passed": False, "valid": False, "causes": ["contention"]}
    header, good, bad = lecture_presets.table({"rows": [ROW, rejected]})
    assert len(header) == len(good) == len(bad)
    assert good == [
        "`--preset lecture-dense`, 256 px",
        *("0.702", "0.690", "0.137", "0.137"),
        "8.4 MB",
        "1.23 [1.20, 1.26]",
        "61 s, 23 epochs",
    ]
    assert "no preset" in bad[0] and bad[2] == "0.690 (rejected)"
    assert bad[6].endswith("(not valid: contention)")
