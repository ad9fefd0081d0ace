from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_files import MODEL, make_record, make_result, make_times
from PIL import Image

from edgecls.benchmark.plot import draw_benchmark
from edgecls.errors import MissingDependency
from edgecls.images import matplotlib_figure


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
        return image.size


def test_accuracy_is_drawn_beside_the_distribution_if_it_is_known(tmp_path: Path) -> None:
    known = make_record(make_result(file="$a$.tflite"), make_result(make_times(3), valid=False))
    unknown = make_record(make_result(model=MODEL | {"accuracy": None}))
    draw_benchmark(known, tmp_path / "plots" / "known.png")
    draw_benchmark(unknown, tmp_path / "unknown.png")
    (wide, high), (narrow, low) = size(tmp_path / "plots" / "known.png"), size(tmp_path / "unknown.png")
    assert (wide, high) == (2 * narrow, low)


def test_a_single_sample_can_be_drawn(tmp_path: Path) -> None:
    draw_benchmark(make_record(make_result(np.array([[2.0]]))), tmp_path / "one.png")
    size(tmp_path / "one.png")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_figure, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="pip install matplotlib"):
        draw_benchmark(make_record(), tmp_path / "none.png")
