"""Files with metadata, whole and forged, that several test files use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from tiny import make_spec

from edgecls.model_file import write
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.write import attach_spec

# Files of both kinds, as small as the format allows: enough for every test that runs no interpreter.
TFLITE = b"\x1c\0\0\0TFL3" + bytes(range(64))
# ir_version = 8, producer_name = "x", graph = {name = "g"}.
ONNX = b"\x08\x08\x12\x01x\x3a\x03\x12\x01g"
GRAPHS = {"tflite": TFLITE, "onnx": ONNX}
KINDS = pytest.mark.parametrize("kind", ["tflite", "onnx"])


def attach(kind: Any, **changes: Any) -> bytes:
    return attach_spec(GRAPHS[kind], make_spec(**changes), kind)


def forge(kind: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> bytes:
    """A file whose metadata have these JSON values and a correct checksum; `...` removes the key."""

    def record(spec: ModelSpec) -> dict[str, Any]:
        values = {**asdict(spec), **changes}
        return {key: value for key, value in values.items() if value is not ...}

    with monkeypatch.context() as patch:
        patch.setattr(write, "asdict", record)
        return attach(kind)
