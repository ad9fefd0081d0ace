from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run as edgecls
from sweeps import make_point

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.sweep import search as searching
from edgecls.sweep.frontier import Before, Point, recommend_fastest
from edgecls.sweep.scan import Scanned
from edgecls.sweep.search import shortlist
from edgecls.sweep.trials import Request

IMAGES = 1000


def make_scanned(blocks: int, correct: int) -> Scanned:
    return Scanned(TrainConfig(blocks=blocks, unfreeze=0), np.arange(IMAGES) < correct)


def cost(config: TrainConfig) -> float:
    return float(config.blocks or 18)


def listed(*correct: int, max_loss: float = 0.005) -> list[int | None]:
    """Return the blocks that are short-listed of networks of 1, 2, 3 ... blocks with so many correct images."""
    scanned = [make_scanned(blocks, count) for blocks, count in enumerate(correct, 1)]
    return [each.config.blocks for each in shortlist(scanned, cost, max_loss)]


def test_the_fastest_that_keeps_the_best_accuracy_is_listed_and_faster_ones_that_lose_a_little_more() -> None:
    assert listed(900, 980, 950) == [2]
    assert listed(900, 960, 970, 975, 978, 980) == [2, 3, 4]
    # One image less than allowed.
    assert listed(900, 959, 969, 974, 980) == [3, 4, 5]
    assert listed(900, 980, max_loss=0.08) == [1]
    assert listed(900, 980, max_loss=0) == [2]


def measured(name: str, ms: float, val_accuracy: float, val_images: int = 10_000) -> Point:
    point = make_point(name, (), ms)
    return Point(name, point.accuracy, point.wrong, point.latency, 1, val_accuracy, val_images)


def test_the_fastest_within_the_loss_on_validation_images_is_recommended() -> None:
    slow, middle, fast = measured("slow", 9, 0.99), measured("middle", 5, 0.984), measured("fast", 2, 0.97)
    # Of 10,000 images, two standard errors are 0.2 points at 99 %.
    assert recommend_fastest([slow, middle, fast], None, 0.005) == middle
    assert recommend_fastest([slow, middle, fast], None, 0) == slow
    assert recommend_fastest([slow, middle, fast], 3, 0.005) == fast
    assert recommend_fastest([slow, middle, fast], 1, 0.005) is None
    # A hundred images cannot tell these apart: two standard errors are 3.4 points at 97 %.
    few = [measured("slow", 9, 0.97, 100), measured("fast", 2, 0.95, 100), measured("faster", 1, 0.9, 100)]
    assert recommend_fastest(few, None, 0.005) == few[1]


def test_the_images_of_the_scan_count_where_there_are_few_validation_images() -> None:
    points = [measured("slow", 9, 0.97, 100), measured("fast", 2, 0.95, 100), measured("faster", 1, 0.94, 100)]

    def chosen(*accuracies: float, images: int = 1000) -> str | None:
        known = dict(zip(("slow", "fast", "faster"), accuracies, strict=True))
        found = recommend_fastest(points, None, 0.005, Before(known, images))
        return found.name if found else None

    assert chosen(0.96, 0.96, 0.96) == "faster"
    assert chosen(0.96, 0.955, 0.9) == "fast"
    assert chosen(0.96, 0.9, 0.9) == "slow"
    # Without images of its own, the scan says nothing: one image in a hundred is worth 1.5 standard errors.
    assert chosen(0.96, 0.9, 0.9, images=0) == "faster"
    assert Before({}, 10**9).weight == pytest.approx(500) and Before({}, 500).weight == pytest.approx(250)


def test_no_network_is_recommended_that_is_worse_than_the_default() -> None:
    points = [measured("slow", 9, 0.98, 100), measured("default", 5, 0.97, 100), measured("fast", 2, 0.96, 100)]
    known = {"slow": 0.96, "default": 0.96, "fast": 0.95}
    assert recommend_fastest(points, None, 0.005, Before(known, 1000)) == points[2]
    assert recommend_fastest(points, None, 0.005, Before(known, 1000, "default")) == points[1]
    # Where the default is too slow, the others are compared with each other.
    assert recommend_fastest(points[1:], 3, 0.005, Before(known, 1000, "default")) == points[2]
    # The best is always good enough.
    assert recommend_fastest(points[1:], None, 0, Before(known, 1000, "default")) == points[1]


def test_the_accuracy_on_held_out_images_does_not_choose() -> None:
    slow = measured("slow", 9, 0.99)
    fast = Point("fast", 0.1, frozenset(range(180)), make_point("", (), 1).latency, 1, 0.99, 10_000)
    assert recommend_fastest([slow, fast], None, 0.005) == fast


@pytest.mark.parametrize("options", [["--alpha", "0.5"], ["--blocks", "3,5"], ["--full-grid"], ["--unfreeze", "2"]])
def test_a_grid_needs_a_budget(options: list[str], tiny_data: Path) -> None:
    done = edgecls("sweep", tiny_data, *options)
    assert done.exit_code == 2 and f"{options[0]} needs --budget" in done.stderr


def test_limits_that_nothing_meets_are_refused(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "scan", lambda *_: [[make_scanned(blocks, 900) for blocks in (5, 9)]])
    request = Request(max_loss=0.005, max_size_bytes=1000)
    with pytest.raises(
        ConfigError, match=r"meets the limits\. .*-blocks5-gap: not trained: its weights alone need [\d,]+ bytes"
    ):
        searching.search(tiny_data, tmp_path / "out", TrainConfig(), request)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_search_recommends_trains_and_continues(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--board", "raspberry-pi-4b", "--image-size", "32", "--weights", "none", "--epochs", 3, "--no-augment")
    arguments = ("sweep", tiny_data, *options, "--out", out)
    first = edgecls(*arguments)
    assert first.exit_code == 0, first.stderr
    document = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    chosen = document["recommended"]
    assert {"name", "p50_ms", "accuracy", "size_bytes"} <= chosen.keys()
    assert (out / chosen["name"] / "run.json").is_file() and Path(chosen["file"]).is_file()
    # One size, all depths, and the whole network.
    assert len(document["candidates"]) == 19
    assert sum(each["scan_accuracy"] is not None for each in document["candidates"]) == 18
    assert (
        document["default"]["name"] == "mobilenet_v2-224-1-gap-fine-tuned"
        and document["default"]["p50_ms"] > chosen["p50_ms"]
    )
    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    again = edgecls(*arguments)
    assert again.exit_code == 0 and f"Recommended: {out / chosen['name']}" in again.stdout
    assert "Against the whole network: " in " ".join(again.stdout.split())
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")} == trained
