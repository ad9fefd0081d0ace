from __future__ import annotations

from typing import Any

import accuracy
import pytest


def run(right: float, tflite: float, seconds: float) -> dict[str, Any]:
    changes = {"tflite": tflite, "onnx": 0.0}
    return {"accuracy": right, "macro_f1": right, "seconds": seconds, "images": 352, "changes": changes}


def test_the_row_has_means_and_extremes() -> None:
    row = accuracy.pool("normal", [run(0.96, -0.0028, 100), run(0.97, 0.0028, 200)])
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == (pytest.approx(0.965), 0.96, 0.97)
    assert row["changes"]["tflite"] == pytest.approx(0) and row["worst_changes"]["tflite"] == -0.0028
    header, cells = accuracy.table({"rows": [row]})
    found = dict(zip(header, cells, strict=True))
    assert found["test accuracy"] == "96.50 % (96.00 to 97.00)" and found["seconds"] == "150"
    assert found["change by int8 .tflite, mean (worst), points"] == "+0.00 (-0.28)"
