"""Reports and pictures of sweeps whose outcome is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sweeps import make_sweep

from edgecls.sweep.grid import Space
from edgecls.sweep.plot import draw_frontier
from edgecls.sweep.report import text_report, to_json

FOUR = Space()


def test_the_document_agrees_with_the_table() -> None:
    found = make_sweep(FOUR, wrong=[60, 24, 23, 4], times_ms=[4, 7, 10, 30], budget_ms=25)
    document = json.loads(json.dumps(to_json(found)))
    rows = document["candidates"]
    assert document["recommended"]["name"] == "mobilenet_v2-128-1-gap"
    assert document["frontier"] == [row["name"] for row in rows]
    assert document["step_up"]["name"] == "mobilenet_v2-160-1-gap"
    assert document["step_down"]["name"] == "mobilenet_v2-96-1-gap"
    assert {row["latency"] for row in rows} == {"estimate"} and {row["interval"] for row in rows} == {0.8}
    assert document["recommended"]["above_budget_chance"] < 0.01 < 0.5 < rows[-1]["above_budget_chance"]
    text = text_report(found)
    assert "Recommended: sweep/mobilenet_v2-128-1-gap: accuracy 0.8800, 7.00 ms expected on raspberry-pi-4b" in text
    assert "160-1-gap is 0.50 points better on these images (p = 1.00). At most 0.5 points are not worth" in text
    assert "Next step down: mobilenet_v2-96-1-gap: -18.00 points of accuracy (p = 0.00, significant" in text
    assert "not measurements" in text and "80% intervals" in text


def test_what_may_not_be_shipped_is_out_with_its_reason() -> None:
    found = make_sweep(FOUR, wrong=[0, 12, 11, 2], times_ms=[4, 7, 10, 30], budget_ms=25, out="failed: 3 points lost")
    document = to_json(found)
    assert document["candidates"][0]["left_out_because"] == "failed: 3 points lost"
    assert not document["candidates"][0]["on_frontier"] and document["candidates"][0]["accuracy"] == 1
    assert "out: mobilenet_v2-96-1-gap: failed: 3 points lost" in text_report(found)


def test_a_budget_that_nothing_meets_recommends_nothing() -> None:
    found = make_sweep(FOUR, wrong=[30, 12, 11, 2], times_ms=[4, 7, 10, 30], budget_ms=3)
    assert to_json(found)["recommended"] is None
    assert "No network that can be shipped meets 3 ms on raspberry-pi-4b." in text_report(found)


CROWD = Space(image_sizes=(96, 128, 160), heads=("gap", "flatten"), unfreeze=(0, 3))


def test_labels_in_a_crowd_do_not_cover_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    savefig = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    rng = np.random.default_rng(0)
    times = [float(ms) for ms in np.repeat([4, 6.6, 9.9], 4) + rng.uniform(0, 0.1, 12)]
    found = make_sweep(CROWD, wrong=[int(n) for n in rng.integers(4, 9, 12)], times_ms=times, budget_ms=12)
    draw_frontier(found, tmp_path / "frontier.png")
    with Image.open(tmp_path / "frontier.png") as picture:
        assert picture.size == (1040, 702)
    texts = drawn[0].axes[0].texts
    boxes = [Text.get_window_extent(text) for text in texts]
    assert {text.get_text().split("\n")[0] for text in texts} >= {"96 px, gap", "160 px, flatten, unfreeze 3"}
    covering = [(a, b) for place, a in enumerate(boxes) for b in boxes[:place] if a.overlaps(b)]
    assert len(boxes) == 12 and not covering
    area = drawn[0].bbox
    assert all(area.x0 <= box.x0 and box.x1 <= area.x1 for box in boxes)
