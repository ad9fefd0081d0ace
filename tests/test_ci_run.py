"""The script of CI, with a `make` that only writes down what it is given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "run"
MAKE = '#!/bin/sh\necho "make $*"\nenv\n'
# What shells set themselves.
OF_SHELLS = {"PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.skipif(not SCRIPT.exists(), reason="not in the sdist")
def test_no_setting_of_the_caller_reaches_the_tests(tmp_path: Path) -> None:
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    settings = {"PYTHONUNBUFFERED": "1", "LANG": "C", "PYTEST_ADDOPTS": "-x", "CI": "maybe"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), **settings}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "make lint" in lines and lines.index("make lint") < lines.index("make test")
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    kept = {name: value for name, value in found.items() if name not in OF_SHELLS}
    assert kept == {"PATH": path, "HOME": str(tmp_path), "CI": "true"}
