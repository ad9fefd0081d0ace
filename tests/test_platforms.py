"""Windows and macOS lack some modules and functions: all that predicts must import and work without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgecls.errors import ConfigError
from edgecls.remote import agent
from edgecls.runtime.trial import try_in_child

ROOT = Path(__file__).parent.parent / "edgecls"
# What only training, exporting and benchmarking need is imported by them; `agent` runs on the board, not here.
LIGHT = ("boards", "bulk", "cli", "images", "messages", "model_file", "parallel", "remote", "runtime")
PREDICT = """
import importlib, os, signal, sys
import numpy as np
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
lacking = ["sched_getaffinity", "sched_setaffinity"]
if sys.argv[1] == "windows":
    lacking += ["getuid", "geteuid", "fork", "sysconf", "getloadavg", "posix_fallocate", "register_at_fork", "statvfs"]
    for name in ("SIGHUP", "SIGKILL", "SIGALRM", "alarm", "pthread_sigmask"):
        delattr(signal, name)
for name in lacking:
    delattr(os, name)
import edgecls
for name in sys.argv[3:]:
    importlib.import_module(name)
with edgecls.load(sys.argv[2]) as classifier:
    print(len(classifier.predict(np.zeros((12, 10, 1), np.uint8)).scores))
from edgecls.boards.machine import read_machine
print(read_machine().cpus > 0)
"""


def light_modules() -> list[str]:
    files = [file for folder in LIGHT for file in sorted((ROOT / folder).rglob("*.py"))] + sorted(ROOT.glob("*.py"))
    names = [".".join(file.relative_to(ROOT.parent).with_suffix("").parts) for file in files]
    # Importing __main__ would run the command line.
    return [name for name in names if not name.endswith(("__main__", "remote.agent"))]


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_everything_light_imports_and_predicts_without_what_a_system_lacks(system: str, tiny_tflite: Path) -> None:
    command = [sys.executable, "-c", PREDICT, system, str(tiny_tflite), *light_modules()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "True"]


def test_nothing_that_runs_here_imports_the_agent() -> None:
    users = [file for file in ROOT.rglob("*.py") if "import agent" in file.read_text("utf-8")]
    assert users == [] and Path(agent.__file__).is_file()


def test_windows_refuses_an_untrusted_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="use Linux or macOS"):
        try_in_child(b"", "litert", 1, "cpu")
