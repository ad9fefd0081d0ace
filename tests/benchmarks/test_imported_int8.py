from __future__ import annotations

import imported_int8


def test_a_row_has_both_sides_of_both_formats() -> None:
    row = {"text": "MobileNetV2", "float": 0.95, "tflite": 0.948, "stock_tflite": 0.7, "onnx": 0.951, "stock_onnx": 0.6}
    header, line = imported_int8.table({"rows": [row]})
    assert header == ["network", "Keras", "tflite, edgecls", "tflite, stock", "onnx, edgecls", "onnx, stock"]
    assert line == ["MobileNetV2", "95.0 %", "94.8 %", "70.0 %", "95.1 %", "60.0 %"]
