"""Keeps engines from telling their makers about this machine and its models. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from typing import Any


def switch_off() -> None:
    """Switch off what ONNX Runtime and OpenVINO would send; a variable that the user has set stays as it is.

    ONNX Runtime reports each model that it loads, its name and hashes, on Linux since 1.29; OpenVINO's converter counts
    its use (https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # The converter does without this package where it is not installed; its own switch is a file in the user's home.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
