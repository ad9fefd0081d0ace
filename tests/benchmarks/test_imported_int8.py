from __future__ import annotations

import imported_int8


def test_a_row_has_both_sides_of_both_formats() -> None:
    row = {"text": "MobileNetV2", "float": 0.95, "tflite": 0.948, "stock_tflite": 0.7, "onnx": 0.951, "stock_onnx": 0.6}
    row |= {"tflite_agreement": 0.99, "stock_tflite_agreement": 0.72, "tflite_p": 0.0012, "onnx_p": 1.0}
    row |= {"onnx_agreement": 0.98, "stock_onnx_agreement": 0.62}
    header, line = imported_int8.table({"rows": [row]})
    assert header[2:] == [
        f"{kind}, {text}" for kind in ("tflite", "onnx") for text in ("edgecls", "stock", "paired test")
    ]
    assert line[:5] == ["MobileNetV2", "95.0 %", "94.8 % (99.0 %)", "70.0 % (72.0 %)", "p = 0.0012"]
    assert line[5:] == ["95.1 % (98.0 %)", "60.0 % (62.0 %)", "p = 1"]
