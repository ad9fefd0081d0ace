"""What this machine's processor cannot show."""

from __future__ import annotations

import pytest

from edgecls.boards.targets import detect_target


def skip_without_vnni() -> None:
    """Skip a test of an int8 ONNX file's scores where the sums of its products overflow (onnxruntime's documents)."""
    if detect_target() == "x86":
        pytest.skip("this processor has no VNNI, so sums of int8 products overflow in ONNX Runtime")
