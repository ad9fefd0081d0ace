from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path

import pytest

import edgecls
from edgecls.boards.versions import tool_versions


def add_package(folder: Path, name: str, metadata: str) -> None:
    info = folder / f"{name}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(metadata)


def test_python_edgecls_and_the_named_packages_are_listed() -> None:
    found = tool_versions("numpy", "pillow", "no-such-package")
    assert found == {
        "python": platform.python_version(),
        "edgecls": edgecls.__version__,
        "numpy": importlib.metadata.version("numpy"),
        "pillow": importlib.metadata.version("Pillow"),
    }
    assert json.loads(json.dumps(found)) == found


def test_any_spelling_of_a_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_package(tmp_path, "Odd_Name-7", "Metadata-Version: 2.1\nName: Odd_Name\nVersion: 7.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert tool_versions("odd-name")["odd-name"] == "7.1"


def test_the_version_that_python_would_import_is_the_one_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, version in (("first", "1.0"), ("second", "2.0")):
        add_package(tmp_path / folder, f"twice-{version}", f"Metadata-Version: 2.1\nName: twice\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert tool_versions("twice")["twice"] == "1.0"


def test_the_rest_of_a_broken_installation_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version("numpy")
    for remains in ("~umpy-1.0", "numpy-1.0"):
        add_package(tmp_path, remains, "")
    monkeypatch.syspath_prepend(tmp_path)
    assert tool_versions("numpy")["numpy"] == installed
