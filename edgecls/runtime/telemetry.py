"""Switches off the telemetry of the engines."""

from __future__ import annotations

import os
import sys
from typing import Any


def switch_off() -> None:
    """Switch off the telemetry of ONNX Runtime and OpenVINO; a variable that the user has set is kept.

    ONNX Runtime reports the name and hashes of each model that it loads, on Linux since 1.29; OpenVINO's converter
    reports its use (https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # The converter works without this package; its own switch is a file in the user's home.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
