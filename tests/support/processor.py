"""What this machine's processor cannot show."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgecls.boards.targets import detect_target


def skip_without_vnni() -> None:
    """Skip a test of an int8 ONNX file's scores where the sums of its products overflow (onnxruntime's documents)."""
    if detect_target() == "x86":
        pytest.skip("this processor has no VNNI, so sums of int8 products overflow in ONNX Runtime")


def fake_flags(patch: pytest.MonkeyPatch, folder: Path, flags: str) -> None:
    """Let this machine be an x86 processor of these flags, for the choice of a target."""
    (folder / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")
    patch.setattr(platform, "machine", lambda: "x86_64")
    patch.setattr(detect_target, "__defaults__", (folder / "cpuinfo",))
