from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image

from edgecls.errors import MissingDependency
from edgecls.images import matplotlib_figure
from edgecls.images.matplotlib_figure import new_figure


@pytest.mark.parametrize("tight", [True, False])
def test_the_picture_has_its_size_unless_it_is_cut(tmp_path: Path, tight: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with new_figure(tmp_path / "deep" / "a.png", 3, 2, 50, tight=tight) as drawn:
            drawn.subplots().set_title("$5 長い名前")
    with Image.open(tmp_path / "deep" / "a.png") as picture:
        assert picture.format == "PNG" and (picture.size == (150, 100)) != tight


def test_a_failed_drawing_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_figure(tmp_path / "a.png", 1, 1, 50):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_figure, "find_spec", lambda _: None)
    message = r"pip install matplotlib, or pip install 'edgecls\[train\]'"
    with pytest.raises(MissingDependency, match=message), new_figure(tmp_path / "a.png", 1, 1, 50):
        pass
