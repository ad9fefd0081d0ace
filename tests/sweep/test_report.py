"""Reports and pictures of sweeps whose outcome is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sweeps import make_sweep

from edgecls.config import TrainConfig
from edgecls.sweep.grid import Space
from edgecls.sweep.plot import draw_frontier
from edgecls.sweep.report import text_report, to_json
from edgecls.sweep.scan import Scanned
from edgecls.sweep.sweep import conclude

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
    assert (
        "Recommended: sweep/mobilenet_v2-128-1-gap\n  Accuracy 88.0 % (95 % interval 82.8 to 91.8 %); 7.00 ms" in text
    )
    assert "7.00 ms expected on raspberry-pi-4b.\n  It meets the budget of 25 ms, almost certainly.\n" in text
    assert "160-1-gap is 0.50 points better on these images (p = 1.00). At most 0.5 points are not worth" in text
    assert "Next faster: mobilenet_v2-96-1-gap: -18.00 points of accuracy (p < 0.01, significant" in text
    assert "not measurements" in text and "80 % intervals" in text


def test_the_table_fits_80_columns_and_names_what_it_shows() -> None:
    found = make_sweep(FOUR, wrong=[60, 24, 23, 4], times_ms=[4, 7, 10, 30], budget_ms=25)
    lines = text_report(found).splitlines()
    assert lines[2].split() == ["mobilenet_v2-128-1-gap", "88.0", "(82.8..91.8)", "7.00", "(5.60..8.75)", "2.80"] + [
        "recommended"
    ]
    assert [line.split()[-2:] for line in (lines[1], lines[4])] == [["2.80", "frontier"], ["over", "budget"]]
    assert max(map(len, lines[:5])) <= 80
    assert lines[5].endswith("95 % interval of the accuracy, 80 % interval of the time.")
    found = make_sweep(CROWD, wrong=[9] * 12, times_ms=[float(ms) for ms in range(1, 13)], budget_ms=25)
    lines = text_report(found).splitlines()
    # Where names are long, the bytes and the intervals of the times give way, never those of the accuracy.
    assert "MB" not in lines[0] and "95.5 (91.7..97.6)     8.00" in lines[8] and max(map(len, lines[:13])) <= 80


def test_a_risk_is_said_only_if_there_is_one() -> None:
    found = make_sweep(FOUR, wrong=[60, 24, 23, 4], times_ms=[4, 7, 23, 24], budget_ms=25)
    assert "It may exceed the budget of 25 ms, with a probability of 41 %." in text_report(found)
    assert "0 %." not in text_report(make_sweep(FOUR, [60, 24, 23, 4], [4, 7, 10, 30], 25))


def test_what_may_not_be_shipped_is_out_with_its_reason() -> None:
    found = make_sweep(FOUR, wrong=[0, 12, 11, 2], times_ms=[4, 7, 10, 30], budget_ms=25, out="failed: 3 points lost")
    document = to_json(found)
    assert document["candidates"][0]["left_out_because"] == "failed: 3 points lost"
    assert not document["candidates"][0]["on_frontier"] and document["candidates"][0]["accuracy"] == 1
    assert "Left out: mobilenet_v2-96-1-gap: failed: 3 points lost" in text_report(found)


def test_a_budget_that_nothing_meets_recommends_nothing() -> None:
    found = make_sweep(FOUR, wrong=[30, 12, 11, 2], times_ms=[4, 7, 10, 30], budget_ms=3)
    assert to_json(found)["recommended"] is None
    assert "No network that can be shipped meets 3 ms on raspberry-pi-4b." in text_report(found)


CROWD = Space(image_sizes=(96, 128, 160), heads=("gap", "flatten"), unfreeze=(0, 3))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written."""
    found: list[Figure] = []
    savefig = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        found.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def test_labels_in_a_crowd_do_not_cover_each_other(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    times = [float(ms) for ms in np.repeat([4, 6.6, 9.9], 4) + rng.uniform(0, 0.1, 12)]
    found = make_sweep(CROWD, wrong=[int(n) for n in rng.integers(4, 9, 12)], times_ms=times, budget_ms=12)
    draw_frontier(found, tmp_path / "frontier.png")
    with Image.open(tmp_path / "frontier.png") as picture:
        assert picture.size == (1040, 702)
    texts = drawn[0].axes[0].texts
    boxes = [Text.get_window_extent(text) for text in texts]
    assert {text.get_text() for text in texts} >= {"96 px, gap", "160 px, flatten, unfreeze 3"}
    covering = [(a, b) for place, a in enumerate(boxes) for b in boxes[:place] if a.overlaps(b)]
    assert len(boxes) == 12 and not covering
    area = drawn[0].bbox
    assert all(area.x0 <= box.x0 and box.x1 <= area.x1 for box in boxes)


def test_a_search_compares_with_the_default_network_and_lists_all_that_were_looked_at() -> None:
    found = make_sweep(FOUR, wrong=[8, 7, 5, 12], times_ms=[2, 4, 5, 25], budget_ms=100)
    scanned = [Scanned(TrainConfig(image_size=size, blocks=9, unfreeze=0), np.arange(992) < 960) for size in (64, 96)]
    scanned += [Scanned(row.candidate.config, np.arange(992) < 900) for row in found.rows]
    request = dataclasses.replace(found.request, budget_ms=None, max_loss=0.005)
    found = dataclasses.replace(
        conclude(found.data, request, found.deployment, found.rows),
        scanned=tuple(scanned),
        default="mobilenet_v2-224-1-gap",
    )
    text = text_report(found)
    assert "It is one of 6 networks (image sizes: 5, all depths)." in text and "992 training and validation" in text
    assert "Against the whole network: 12.5 times as fast, 1.0 times smaller, +2.00 " in text
    assert "budget" not in text and [line.split()[-1] for line in text.splitlines()[1:5]][-1] == "default"
    document = json.loads(json.dumps(to_json(found)))
    assert document["recommended"]["name"] == "mobilenet_v2-96-1-gap" and document["budget_ms"] is None
    assert document["recommended"]["size_bytes"] == document["recommended"]["bytes"] == 2_800_000
    assert document["default"]["name"] == "mobilenet_v2-224-1-gap"
    rows = {row["name"]: row for row in document["candidates"]}
    assert len(rows) == len(document["candidates"]) == 6
    assert rows["mobilenet_v2-96-1-blocks9-gap"]["left_out_because"] == "not trained"
    assert rows["mobilenet_v2-96-1-blocks9-gap"]["scan_accuracy"] == pytest.approx(960 / 992)
    assert rows["mobilenet_v2-224-1-gap"]["scan_accuracy"] == pytest.approx(900 / 992)
    # The choice was made on other images, so the accuracy is not too good.
    assert not [note for note in document["notes"] if "looks a little better" in note]


@pytest.mark.parametrize(
    ("wrong", "out", "legend"),
    [
        ([60, 4], "", ["budget", "frontier", "recommended"]),
        ([2, 12, 11, 4], "failed", ["budget", "frontier", "recommended", "cannot be shipped"]),
        ([60, 24, 30, 4], "", ["budget", "frontier", "recommended", "slower or less accurate"]),
    ],
)
def test_the_legend_has_what_is_drawn(
    tmp_path: Path, drawn: list[Figure], wrong: list[int], out: str, legend: list[str]
) -> None:
    space = Space(image_sizes=(96, 128, 160, 224)[: len(wrong)])
    found = make_sweep(space, wrong=wrong, times_ms=[4.0, 7.0, 10.0, 12.0][: len(wrong)], budget_ms=20, out=out)
    draw_frontier(found, tmp_path / "frontier.png")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == legend


def test_of_many_networks_those_of_the_frontier_are_labeled(tmp_path: Path, drawn: list[Figure]) -> None:
    space = Space(image_sizes=(64, 96, 128, 160, 224), heads=("gap", "flatten"), unfreeze=(0, 3))
    wrong = [50 - 2 * number + 9 * (number % 2) for number in range(20)]
    found = make_sweep(space, wrong=wrong, times_ms=[float(ms) for ms in range(2, 22)], budget_ms=12)
    draw_frontier(found, tmp_path / "frontier.png")
    assert len(drawn[0].axes[0].texts) == len(found.frontier) < 20
