"""Places where things go wrong: a small disk, one that cannot be written, a machine without some package."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgecls.model_file.read import read_spec

SECONDS = 300
TINY = (
    "--arch",
    "cnn",
    "--image-size",
    "16",
    "--filters",
    "4,8",
    "--hidden",
    "8",
    "--epochs",
    "30",
    "--patience",
    "30",
)
# Root may do anything; without these two it is bound by permissions as everybody is.
BOUND_BY_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
# Put first on sys.path: hides packages from this process and its children.
HIDE = """
import importlib.machinery, os
hidden, find = os.environ["HIDDEN"].split(), importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in hidden else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""


def start(arguments: Sequence[object], before: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    """Start an edgecls command."""
    command = [*before, sys.executable, "-m", "edgecls", *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: object, before: Sequence[str] = (), **environment: str) -> tuple[int, str]:
    """Return exit status and stderr of an edgecls command, which must have no traceback to show."""
    with start(arguments, before, **environment) as process:
        errors = process.communicate(timeout=SECONDS)[1]
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def hiding(folder: Path, *packages: str) -> dict[str, str]:
    """Return the environment of a machine that lacks these packages."""
    (folder / "sitecustomize.py").write_text(HIDE)
    paths = [str(folder), *map(os.path.abspath, sys.path)]
    return {"HIDDEN": " ".join(packages), "PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def small_disk(folder: Path, size_kb: int) -> Iterator[Path]:
    """Yield `folder` with a file system of its own, of so many kB in memory, or skip the test."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change the options of a `small_disk`: its size, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def check_exports(folder: Path) -> None:
    """Check that every file of a final name is whole, and that export.json says of each what it is."""
    for path in folder.glob("model-*"):
        read_spec(path)
    if (folder / "export.json").exists():
        for entry in json.loads((folder / "export.json").read_text())["files"]:
            assert hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"], entry["path"]
