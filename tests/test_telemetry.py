from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Where one of these is set, nothing would be sent in any case.
SILENCED_BY = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")


def run(code: str, home: Path, *arguments: object, **variables: str) -> str:
    """Return what Python printed, in a process that has a home of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in (*SILENCED_BY, "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment | {"HOME": str(home)} | variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_onnxruntime_leaves_nothing_at_home(tiny_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run("import edgecls, sys; edgecls.load(sys.argv[1])", tmp_path, tiny_onnx)
    assert list(tmp_path.rglob("*")) == [], "the number under which its reports are sent"


def test_openvinos_converter_has_nobody_to_tell(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    code = "import edgecls; from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__)"
    assert run(code, tmp_path) == "openvino.tools.ovc.telemetry_stub"


def test_a_user_who_decided_is_obeyed(tmp_path: Path) -> None:
    code = "import edgecls, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(code, tmp_path) == "1"
    assert run(code, tmp_path, ORT_DISABLE_TELEMETRY="0") == "0"
