"""Boards' TOML files: a profile, or a sentence that names the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import fuzz, ran
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_VALUES, damaged, odd_documents

from edgecls.boards import profiles
from edgecls.cli import main
from edgecls.errors import ConfigError

# TOML has no way to write a lone surrogate.
POSSIBLE = [value for value in ODD_VALUES if value != "\ud800"]
NAMES = ("raspberry-pi-4b", "raspberry-pi-4b-32bit", "coral-usb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    copy = Path(shutil.copytree(profiles._folder(), tmp_path_factory.mktemp("boards") / "devices"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "FOLDERS", (copy,))
        profiles._read.cache_clear()
        yield copy
    profiles._read.cache_clear()


def show(name: str) -> None:
    """Load the profile, and print it as the command does."""
    profiles._read.cache_clear()
    try:
        profiles.load_profile(name)
    except ConfigError as error:
        assert f"{name}.toml" in str(error)
    done = CliRunner().invoke(main, ["devices", name])
    assert done.exit_code in (0, 2) and (done.exception is None or isinstance(done.exception, SystemExit)), done


@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes(folder: Path, name: str) -> None:
    path = folder / f"{name}.toml"
    good = path.read_bytes()

    @fuzz(150, quick=20)
    @given(damaged((good,)))
    def change(data: bytes) -> None:
        ran["TOML bytes"] += 1
        path.write_bytes(data)
        show(name)

    change()
    path.write_bytes(good)


@pytest.mark.parametrize("name", NAMES)
def test_odd_values(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = profiles._read.__wrapped__
    good = read(f"{name}.toml")
    values = st.sampled_from(["title", "../../etc/passwd", -1, 10**30, 1.5, True, [], {}, ["x"], "\x1b[2J", "nan"])

    @fuzz(150, quick=20)
    @given(odd_documents(good, POSSIBLE) | st.tuples(st.sampled_from(["extends", "systems", "new"]), values))
    def change(tree: Any) -> None:
        ran["TOML values"] += 1
        changed = {**good, tree[0]: tree[1]} if isinstance(tree, tuple) else tree
        reading = lambda asked: changed if asked == f"{name}.toml" else read(asked)  # noqa: E731
        reading.cache_clear = lambda: None  # type: ignore[attr-defined]
        monkeypatch.setattr(profiles, "_read", reading)
        show(name)

    change()
